/* soak BUNDLE SECONDS: restores small pictures of changing sizes again and again in one process, on this thread and by the
 * queue, and prints `SECONDS RESTORED KIB` (resident memory) about a hundred times. Exit code: 0 unless a call fails. */
#include "common.h"

#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static long resident_kib(void) {
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status)) {
        if (sscanf(line, "VmRSS: %ld kB", &kib) == 1) {
            break;
        }
    }
    fclose(status);
    return kib;
}

static void restore(diffbir_engine *engine, unsigned side, int queued) {
    static unsigned char values[64 * 64 * 3];
    diffbir_pixels pixels;
    diffbir_options options;
    diffbir_request *request = NULL;
    diffbir_image *image = NULL;
    uint8_t *file = NULL;
    size_t size = 0;
    bool done = false;
    DIFFBIR_INIT(diffbir_pixels, &pixels);
    pixels.data = values;
    pixels.size = (size_t)side * side * 3;
    pixels.width = pixels.height = side;
    DIFFBIR_INIT(diffbir_options, &options);
    options.sampler = "ddim";
    options.steps = 1;
    options.upscale = 1;
    OK(diffbir_request_new(engine, &request));
    OK(diffbir_request_set_pixels(request, &pixels));
    OK(diffbir_request_set_options(request, &options));
    if (queued) {
        OK(diffbir_request_submit(request));
        OK(diffbir_request_wait(request, DIFFBIR_FOREVER, &done));
        CHECK(done);
    } else {
        OK(diffbir_request_run(request));
    }
    OK(diffbir_request_image(request, 0, &image));
    OK(diffbir_image_encode(image, NULL, &file, &size));
    CHECK(size > 0);
    diffbir_bytes_free(file, size);
    diffbir_image_free(image);
    /* What is refused is given back as well. */
    options.steps = 4000000000u;
    diffbir_error *refused = diffbir_request_set_options(request, &options);
    CHECK(refused != NULL);
    diffbir_error_free(refused);
    diffbir_request_free(request);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    double start = now(), seconds = atof(argv[2]), next = 0;
    unsigned long restored = 0;
    diffbir_engine_options options;
    diffbir_engine *engine = NULL;
    DIFFBIR_INIT(diffbir_engine_options, &options);
    options.bundle = argv[1];
    OK(diffbir_engine_new(&options, &engine));
    while (now() - start < seconds) {
        restore(engine, 16 + 8 * (unsigned)(restored % 7), restored % 2 == 1);
        restored++;
        if (now() - start >= next) {
            printf("%.0f %lu %ld\n", now() - start, restored, resident_kib());
            fflush(stdout);
            next += seconds / 100;
        }
    }
    diffbir_engine_free(engine);
    CHECK(diffbir_live_handles() == 0);
    return 0;
}
