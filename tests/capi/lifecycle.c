/* lifecycle BUNDLE COUNT [--every K] [--light] [--memory]
 *
 * Creates, restores, cancels, fails and frees, COUNT times in one thread, with a new engine every K rounds (default 10).
 * --light, for slow machinery: one thread and no cleaner. With --memory, resident memory must not grow after the first
 * 100 rounds: what those allocate once, such as pools of the allocator and of ONNX Runtime, is no leak, what every round
 * leaves behind is. One such pool is 2 % of what there is and may come later; in 200 more rounds 4 % are 15 KiB a round. */

#include "common.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <unistd.h>

enum { WARM_UP = 100, GROWTH_PERCENT = 4 };

static bool light = false;

static int stop(const diffbir_progress *progress, void *user_data) {
    int *events = user_data;
    CHECK(progress->struct_size >= sizeof *progress && progress->stage != NULL);
    *events += 1;
    return 0;
}

static int count(const diffbir_progress *progress, void *user_data) {
    int *steps = user_data;
    *steps += progress->event == DIFFBIR_EVENT_STEP;
    return 1;
}

/* Without what glibc's allocator keeps for later, which differs by megabytes from run to run. */
static long resident_kib(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL);
    long all = 0;
    long resident = 0;
    CHECK(fscanf(statm, "%ld %ld", &all, &resident) == 2);
    fclose(statm);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* A restore on this thread or on the engine's, and everything that can be had from its result. */
static void restore(const diffbir_engine *engine, int round) {
    diffbir_request *request = tiny_request(engine, 1, round % 3);
    if (light) {
        const char *const settings[] = {"restore.cleaner=none"};
        diffbir_options options = tiny_options(1);
        options.settings = settings;
        options.setting_count = 1;
        OK(diffbir_request_set_options(request, &options));
    }
    int steps = 0;
    OK(diffbir_request_set_progress(request, count, &steps, NULL));
    if (round % 2 == 0) {
        OK(diffbir_request_run(request));
    } else {
        bool done = false;
        OK(diffbir_request_submit(request));
        OK(diffbir_request_wait(request, DIFFBIR_FOREVER, &done));
        CHECK(done);
    }
    CHECK(steps == 1);
    CHECK(diffbir_request_sample_count(request) == 1);

    diffbir_image *image = NULL;
    diffbir_image *again = NULL;
    char *json = NULL;
    OK(diffbir_request_image(request, 0, &image));
    OK(diffbir_request_image(request, 0, &again));
    OK(diffbir_request_provenance(request, &json));
    CHECK(strstr(json, "\"ddim\"") != NULL);
    diffbir_string_free(json);
    CHECK(diffbir_image_data(image) == diffbir_image_data(again));
    diffbir_image_free(again);
    diffbir_request_free(request);

    /* The image outlives its request. */
    CHECK(diffbir_image_width(image) == SIDE && diffbir_image_height(image) == SIDE);
    CHECK(!diffbir_image_has_alpha(image));
    uint8_t values[TINY_BYTES];
    diffbir_pixels place = tiny_pixels(values);
    OK(diffbir_image_copy(image, &place));
    CHECK(memcmp(values, diffbir_image_data(image), TINY_BYTES) == 0);

    uint8_t *png = NULL;
    size_t size = 0;
    OK(diffbir_image_encode(image, NULL, &png, &size));
    CHECK(size > 8 && memcmp(png, "\x89PNG", 4) == 0);
    diffbir_image_free(image);

    /* What was encoded is an input again; it is decoded, then the host stops at the first event. */
    int events = 0;
    diffbir_options options = tiny_options(1);
    OK(diffbir_request_new(engine, &request));
    OK(diffbir_request_set_bytes(request, png, size));
    diffbir_bytes_free(png, size);
    OK(diffbir_request_set_options(request, &options));
    OK(diffbir_request_set_progress(request, stop, &events, NULL));
    FAILS(DIFFBIR_CODE_CANCELLED, diffbir_request_run(request));
    CHECK(events == 1);
    diffbir_request_free(request);
}

/* Requests that end without a result. */
static void fail(const diffbir_engine *engine) {
    diffbir_cancel *cancel = NULL;
    OK(diffbir_cancel_new(&cancel));
    diffbir_request *request = tiny_request(engine, 1, 1);
    OK(diffbir_request_set_cancel(request, cancel));
    OK(diffbir_cancel_trigger(cancel));
    diffbir_cancel_free(cancel);
    FAILS(DIFFBIR_CODE_CANCELLED, diffbir_request_run(request));

    OK(diffbir_request_set_cancel(request, NULL));
    OK(diffbir_request_set_bytes(request, (const uint8_t *)"no picture", 10));
    OK(diffbir_request_submit(request));
    FAILS(DIFFBIR_CODE_INPUT, diffbir_request_wait(request, DIFFBIR_FOREVER, NULL));
    CHECK(diffbir_request_sample_count(request) == 0);
    diffbir_request_free(request);

    diffbir_engine_options nothing;
    DIFFBIR_INIT(diffbir_engine_options, &nothing);
    diffbir_engine *none = NULL;
    FAILS(DIFFBIR_CODE_BUNDLE, diffbir_engine_new(&nothing, &none));
    CHECK(none == NULL);
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    const char *bundle = argv[1];
    int rounds = atoi(argv[2]);
    int every = 10;
    bool memory = false;
    for (int k = 3; k < argc; k++) {
        if (strcmp(argv[k], "--memory") == 0) {
            memory = true;
        } else if (strcmp(argv[k], "--every") == 0 && k + 1 < argc) {
            every = atoi(argv[++k]);
        } else {
            CHECK(strcmp(argv[k], "--light") == 0);
            light = true;
        }
    }
    CHECK(rounds > 0 && every > 0);
    OK(DIFFBIR_ABI_CHECK());

    diffbir_engine *engine = NULL;
    long warm = 0;
    for (int round = 0; round < rounds; round++) {
        if (round % every == 0) {
            diffbir_engine_free(engine);
            engine = open_engine(bundle, 0, light ? 1 : 0);
        }
        restore(engine, round);
        fail(engine);
        CHECK(diffbir_live_handles() == 1);
        if (round + 1 == WARM_UP) {
            warm = resident_kib();
        }
    }
    if (memory) {
        CHECK(rounds > WARM_UP);
        long end = resident_kib();
        printf("resident after %d rounds: %ld KiB, after %d: %ld KiB\n", WARM_UP, warm, rounds, end);
        CHECK(end * 100 <= warm * (100 + GROWTH_PERCENT));
    }
    diffbir_engine_free(engine);
    CHECK(diffbir_live_handles() == 0);
    return 0;
}
