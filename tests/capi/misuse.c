/* misuse BUNDLE SCRATCH
 *
 * What a host may get wrong: every call here is refused with the right code and a message, or passed over where the
 * header says so, and the library goes on working. SCRATCH is an empty folder. */

#define DIFFBIR_TEST_HOOKS
#include "common.h"

#include <math.h>
#include <pthread.h>

#define ARGUMENT DIFFBIR_CODE_INVALID_ARGUMENT
#define STATE DIFFBIR_CODE_INVALID_STATE
#define OPTION DIFFBIR_CODE_OPTION

/* One of each, alive during the whole test. */
static diffbir_engine *engine;
static diffbir_request *request; /* without input */
static diffbir_request *done;    /* with a result */
static diffbir_image *image;
static diffbir_error *failure;
static diffbir_cancel *cancel;

/* Where a result would be put: has to stay as it is. */
static void *const UNTOUCHED = (void *)0x5a5a;
static void *out;
static size_t out_size;

enum { MOST_BAD = 16 };

typedef struct {
    void *handles[MOST_BAD];
    int count;
} bad_handles;

static void *freed[5];

/* NULL, garbage, freed handles of all types, and the living ones of all types but that of `mine`. */
static bad_handles bad_but(const void *mine) {
    static int on_stack;
    void *const all[] = {NULL,     (void *)1, (void *)16, (void *)UINTPTR_MAX, &on_stack, freed[0], freed[1], freed[2],
                         freed[3], freed[4],  engine,     request,             image,     failure,  cancel};
    bad_handles bad = {{NULL}, 0};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        if (all[k] == NULL || all[k] != mine) {
            bad.handles[bad.count++] = all[k];
        }
    }
    return bad;
}

/* `call` with `h` being every handle that is none of `mine`'s type. */
#define EACH_BAD(mine, call)                                       \
    do {                                                           \
        bad_handles bad = bad_but(mine);                     \
        for (int bad_k = 0; bad_k < bad.count; bad_k++) {          \
            void *h = bad.handles[bad_k];                          \
            call;                                                  \
            CHECK(out == UNTOUCHED && out_size == 77);             \
        }                                                          \
    } while (0)

static int go_on(const diffbir_progress *progress, void *user_data) {
    (void)progress;
    (void)user_data;
    return 1;
}

static void pointers(void) {
    uint8_t values[TINY_BYTES];
    diffbir_pixels pixels = tiny_pixels(values);
    diffbir_options options = tiny_options(1);
    bool flag = true;

    /* Engines. */
    FAILS(DIFFBIR_CODE_BUNDLE, diffbir_engine_new(NULL, (diffbir_engine **)&out));
    FAILS(ARGUMENT, diffbir_engine_new(NULL, NULL));
    EACH_BAD(engine, FAILS(ARGUMENT, diffbir_engine_bundle(h, (char **)&out)));
    EACH_BAD(engine, FAILS(ARGUMENT, diffbir_engine_runtime(h, (char **)&out)));
    EACH_BAD(engine, FAILS(ARGUMENT, diffbir_engine_configuration(h, (char **)&out)));
    EACH_BAD(engine, FAILS(ARGUMENT, diffbir_request_new(h, (diffbir_request **)&out)));
    EACH_BAD(engine, FAILS(ARGUMENT, diffbir_restore_file(h, "in.png", "out.png", NULL)));
    FAILS(ARGUMENT, diffbir_engine_bundle(engine, NULL));
    FAILS(ARGUMENT, diffbir_engine_runtime(engine, NULL));
    FAILS(ARGUMENT, diffbir_engine_configuration(engine, NULL));
    FAILS(ARGUMENT, diffbir_request_new(engine, NULL));
    FAILS(ARGUMENT, diffbir_restore_file(engine, NULL, "out.png", NULL));
    FAILS(ARGUMENT, diffbir_restore_file(engine, "in.png", NULL, NULL));

    /* Requests. */
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_set_file(h, "in.png")));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_set_bytes(h, values, sizeof values)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_set_pixels(h, &pixels)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_set_options(h, &options)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_set_options(h, NULL)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_set_progress(h, go_on, NULL, NULL)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_set_cancel(h, cancel)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_run(h)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_submit(h)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_stop(h)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_poll(h, &flag)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_wait(h, DIFFBIR_FOREVER, &flag)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_image(h, 0, (diffbir_image **)&out)));
    EACH_BAD(request, FAILS(ARGUMENT, diffbir_request_provenance(h, (char **)&out)));
    EACH_BAD(request, CHECK(diffbir_request_sample_count(h) == 0));
    CHECK(flag);
    EACH_BAD(cancel, if (h != NULL) FAILS(ARGUMENT, diffbir_request_set_cancel(request, h)));
    OK(diffbir_request_set_cancel(request, NULL));
    OK(diffbir_request_set_progress(request, NULL, NULL, NULL));
    OK(diffbir_request_set_options(request, NULL));
    FAILS(ARGUMENT, diffbir_request_set_file(request, NULL));
    FAILS(ARGUMENT, diffbir_request_set_bytes(request, NULL, 8));
    FAILS(ARGUMENT, diffbir_request_set_bytes(request, NULL, 0));
    FAILS(ARGUMENT, diffbir_request_set_bytes(request, values, 0));
    FAILS(ARGUMENT, diffbir_request_set_pixels(request, NULL));
    FAILS(ARGUMENT, diffbir_request_image(done, 0, NULL));
    FAILS(ARGUMENT, diffbir_request_provenance(done, NULL));

    /* Images. */
    EACH_BAD(image, CHECK(diffbir_image_width(h) == 0));
    EACH_BAD(image, CHECK(diffbir_image_height(h) == 0));
    EACH_BAD(image, CHECK(!diffbir_image_has_alpha(h)));
    EACH_BAD(image, CHECK(diffbir_image_data(h) == NULL));
    EACH_BAD(image, FAILS(ARGUMENT, diffbir_image_copy(h, &pixels)));
    EACH_BAD(image, FAILS(ARGUMENT, diffbir_image_encode(h, NULL, (uint8_t **)&out, &out_size)));
    EACH_BAD(image, FAILS(ARGUMENT, diffbir_image_write(h, "out.png", NULL)));
    FAILS(ARGUMENT, diffbir_image_copy(image, NULL));
    FAILS(ARGUMENT, diffbir_image_encode(image, NULL, NULL, &out_size));
    FAILS(ARGUMENT, diffbir_image_encode(image, NULL, (uint8_t **)&out, NULL));
    CHECK(out == UNTOUCHED && out_size == 77);
    FAILS(ARGUMENT, diffbir_image_write(image, NULL, NULL));

    /* Cancelling. */
    FAILS(ARGUMENT, diffbir_cancel_new(NULL));
    EACH_BAD(cancel, FAILS(ARGUMENT, diffbir_cancel_trigger(h)));
    EACH_BAD(cancel, CHECK(!diffbir_cancel_is_triggered(h)));

    /* Errors. */
    CHECK(diffbir_error_code(NULL) == DIFFBIR_CODE_OK);
    EACH_BAD(failure, CHECK(h == NULL || diffbir_error_code(h) == ARGUMENT));
    EACH_BAD(failure, CHECK(diffbir_error_message(h) == NULL));
    EACH_BAD(failure, CHECK(diffbir_error_cause(h) == NULL));

    /* Freeing what is no handle, was freed, or is another's does nothing. */
    size_t before = diffbir_live_handles();
    EACH_BAD(engine, diffbir_engine_free(h));
    EACH_BAD(request, diffbir_request_free(h));
    EACH_BAD(image, diffbir_image_free(h));
    EACH_BAD(failure, diffbir_error_free(h));
    EACH_BAD(cancel, diffbir_cancel_free(h));
    CHECK(diffbir_live_handles() == before);
    diffbir_string_free(NULL);
    diffbir_bytes_free(NULL, 0);
    diffbir_bytes_free(NULL, 8);

    /* A place that is NULL is not filled. */
    diffbir_engine_options_init(NULL, sizeof(diffbir_engine_options));
    diffbir_options_init(NULL, sizeof(diffbir_options));
    diffbir_pixels_init(NULL, sizeof(diffbir_pixels));
    diffbir_encode_options_init(NULL, sizeof(diffbir_encode_options));
}

/* A structure with room for what a later header appends. */
typedef union {
    size_t struct_size;
    diffbir_engine_options engine;
    diffbir_options options;
    diffbir_pixels pixels;
    diffbir_encode_options encode;
    unsigned char bytes[4096 + 64];
} grown;

typedef diffbir_error *(*use_fn)(const grown *);

static diffbir_error *use_engine(const grown *given) {
    return diffbir_engine_new(&given->engine, (diffbir_engine **)&out);
}
static diffbir_error *use_options(const grown *given) {
    return diffbir_request_set_options(request, &given->options);
}
static diffbir_error *use_file(const grown *given) {
    return diffbir_restore_file(engine, "absent.png", "absent-too.png", &given->options);
}
static diffbir_error *use_pixels(const grown *given) {
    return diffbir_request_set_pixels(request, &given->pixels);
}
static diffbir_error *use_copy(const grown *given) {
    return diffbir_image_copy(image, &given->pixels);
}
static diffbir_error *use_encode(const grown *given) {
    uint8_t *data = NULL;
    size_t size = 0;
    diffbir_error *error = diffbir_image_encode(image, &given->encode, &data, &size);
    diffbir_bytes_free(data, size);
    return error;
}
static diffbir_error *use_write(const grown *given) {
    return diffbir_image_write(image, "/dev/null/x.png", &given->encode);
}

static void structures(void) {
    uint8_t values[TINY_BYTES];
    const size_t largest = 4096;
    grown options, pixels, encode, engine_options;
    struct {
        grown *given;
        size_t size;
        use_fn use;
        /* What a call with a sound structure gives: some of these cannot succeed, for reasons further on. */
        diffbir_code sound;
    } rows[] = {
        {&engine_options, sizeof(diffbir_engine_options), use_engine, DIFFBIR_CODE_BUNDLE},
        {&options, sizeof(diffbir_options), use_options, DIFFBIR_CODE_OK},
        {&options, sizeof(diffbir_options), use_file, DIFFBIR_CODE_INPUT},
        {&pixels, sizeof(diffbir_pixels), use_pixels, DIFFBIR_CODE_OK},
        {&pixels, sizeof(diffbir_pixels), use_copy, DIFFBIR_CODE_OK},
        {&encode, sizeof(diffbir_encode_options), use_encode, DIFFBIR_CODE_OK},
        {&encode, sizeof(diffbir_encode_options), use_write, DIFFBIR_CODE_INPUT},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        grown *given = rows[k].given;
        size_t size = rows[k].size;
        use_fn use = rows[k].use;
        memset(given, 0xff, sizeof *given);
        if (given == &pixels) {
            diffbir_pixels_init(&given->pixels, size + 32);
            given->pixels.data = values;
            given->pixels.size = sizeof values;
            given->pixels.width = given->pixels.height = SIDE;
        } else if (given == &options) {
            diffbir_options_init(&given->options, size + 32);
        } else if (given == &encode) {
            diffbir_encode_options_init(&given->encode, size + 32);
        } else {
            diffbir_engine_options_init(&given->engine, size + 32);
        }
        /* A grown structure is filled to its end, and not beyond. */
        CHECK(given->struct_size == size + 32 && given->bytes[size + 32] == 0xff);
        for (size_t b = size; b < size + 32; b++) {
            CHECK(given->bytes[b] == 0);
        }
        /* Sizes that no header has. */
        const size_t wrong[] = {0, 1, 8, size - 1, largest + 1, SIZE_MAX / 2, SIZE_MAX};
        for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
            given->struct_size = wrong[w];
            FAILS(ARGUMENT, use(given));
        }
        /* Today's size, with anything behind it; a later header's whose new fields are unset, and set. */
        const size_t sound[] = {size, size + 8, size + 32};
        for (size_t s = 0; s < sizeof sound / sizeof *sound; s++) {
            given->struct_size = sound[s];
            if (rows[k].sound == DIFFBIR_CODE_OK) {
                OK(use(given));
            } else {
                FAILS(rows[k].sound, use(given));
            }
        }
        given->bytes[size + 31] = 1;
        FAILS(DIFFBIR_CODE_ABI, use(given));
        given->struct_size = size;
        if (rows[k].sound == DIFFBIR_CODE_OK) {
            OK(use(given));
        }
    }
    CHECK(out == UNTOUCHED);

    /* A size that cannot be one: nothing is filled. */
    grown none;
    memset(&none, 0xee, sizeof none);
    diffbir_options_init(&none.options, 0);
    diffbir_options_init(&none.options, SIZE_MAX);
    for (size_t b = 0; b < sizeof none; b++) {
        CHECK(none.bytes[b] == 0xee);
    }

    OK(DIFFBIR_ABI_CHECK());
    OK(diffbir_abi_check(1));
    FAILS(ARGUMENT, diffbir_abi_check(0));
    FAILS(DIFFBIR_CODE_ABI, diffbir_abi_check(DIFFBIR_ABI_VERSION + 1));
    FAILS(DIFFBIR_CODE_ABI, diffbir_abi_check(UINT32_MAX));
    CHECK(diffbir_abi_version() == DIFFBIR_ABI_VERSION);
    CHECK(strlen(diffbir_version()) > 0 && strstr(diffbir_build_info(), diffbir_version()) != NULL);
}

/* One field wrong, all others right. */
#define PIXELS_ROW(field, value)                                   \
    do {                                                           \
        diffbir_pixels wrong = tiny_pixels(values);                \
        wrong.field = (value);                                     \
        FAILS(ARGUMENT, diffbir_request_set_pixels(request, &wrong)); \
        FAILS(ARGUMENT, diffbir_image_copy(image, &wrong));        \
    } while (0)

static void pixels(void) {
    uint8_t values[TINY_BYTES];
    PIXELS_ROW(data, NULL);
    PIXELS_ROW(size, 0);
    PIXELS_ROW(size, TINY_BYTES - 1);
    PIXELS_ROW(width, 0);
    PIXELS_ROW(height, 0);
    PIXELS_ROW(width, SIDE + 1);
    PIXELS_ROW(height, UINT32_MAX);
    PIXELS_ROW(width, UINT32_MAX);
    PIXELS_ROW(value_type, 0);
    PIXELS_ROW(value_type, DIFFBIR_TYPE_F32 + 1);
    PIXELS_ROW(value_type, UINT32_MAX);
    PIXELS_ROW(value_type, DIFFBIR_TYPE_U16); /* more bytes than there are */
    PIXELS_ROW(channels, 0);
    PIXELS_ROW(channels, DIFFBIR_CHANNELS_GREY + 1);
    PIXELS_ROW(channels, UINT32_MAX);
    PIXELS_ROW(channels, DIFFBIR_CHANNELS_RGBA); /* as above */
    PIXELS_ROW(layout, 0);
    PIXELS_ROW(layout, DIFFBIR_LAYOUT_CHW + 1);
    PIXELS_ROW(layout, UINT32_MAX);
    PIXELS_ROW(row_stride, 3 * SIDE - 1);
    PIXELS_ROW(row_stride, 3 * SIDE + 1); /* ends beyond the bytes */
    PIXELS_ROW(row_stride, SIZE_MAX);
    PIXELS_ROW(row_stride, SIZE_MAX / (SIDE - 1));

    diffbir_pixels planes = tiny_pixels(values);
    planes.layout = DIFFBIR_LAYOUT_CHW;
    OK(diffbir_request_set_pixels(request, &planes));
    const size_t wrong[] = {1, SIDE * SIDE - 1, SIDE * SIDE + 1, SIZE_MAX / 2, SIZE_MAX};
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        planes.plane_stride = wrong[k];
        FAILS(ARGUMENT, diffbir_request_set_pixels(request, &planes));
        FAILS(ARGUMENT, diffbir_image_copy(image, &planes));
    }

    /* Not the image's size, though the bytes would do. */
    diffbir_pixels other = tiny_pixels(values);
    other.width = SIDE / 2;
    FAILS(ARGUMENT, diffbir_image_copy(image, &other));
    other = tiny_pixels(values);
    other.height = SIDE - 1;
    FAILS(ARGUMENT, diffbir_image_copy(image, &other));

    /* Strange and allowed: values that are not aligned, gaps that are left alone, values that no colour has. */
    static unsigned char room[1 + 4 * TINY_BYTES + 64];
    memset(room, 0xaa, sizeof room);
    diffbir_pixels odd = tiny_pixels(values);
    odd.data = room + 1;
    odd.size = 4 * TINY_BYTES;
    odd.value_type = DIFFBIR_TYPE_F32;
    OK(diffbir_image_copy(image, &odd));
    CHECK(room[0] == 0xaa && room[1 + 4 * TINY_BYTES] == 0xaa);
    const float strange[] = {NAN, INFINITY, -INFINITY, -1, 1e30F};
    memcpy(room + 1, strange, sizeof strange);
    OK(diffbir_request_set_pixels(request, &odd));
    memset(room, 0xaa, sizeof room);
    odd = tiny_pixels(values);
    odd.data = room;
    odd.size = sizeof room;
    odd.row_stride = 3 * SIDE + 1;
    OK(diffbir_image_copy(image, &odd));
    CHECK(room[3 * SIDE] == 0xaa && memcmp(room + 3 * SIDE + 1, diffbir_image_data(image) + 3 * SIDE, 3 * SIDE) == 0);
}

#define OPTIONS_ROW(code, field, value)                            \
    do {                                                           \
        diffbir_options wrong = tiny_options(1);                   \
        wrong.field = (value);                                     \
        FAILS(code, diffbir_request_set_options(request, &wrong)); \
        FAILS(code, diffbir_restore_file(engine, "absent.png", "absent-too.png", &wrong)); \
    } while (0)

#define SETTING_ROW(code, text)                                    \
    do {                                                           \
        const char *const settings[] = {"sampling.eta=0", text};   \
        diffbir_options wrong = tiny_options(1);                   \
        wrong.settings = settings;                                 \
        wrong.setting_count = 2;                                   \
        FAILS(code, diffbir_request_set_options(request, &wrong)); \
    } while (0)

static const char *const NO_UTF8 = "\xff\xfe";

static void options(void) {
    OPTIONS_ROW(ARGUMENT, task, NO_UTF8);
    OPTIONS_ROW(ARGUMENT, sampler, NO_UTF8);
    OPTIONS_ROW(ARGUMENT, prompt, NO_UTF8);
    OPTIONS_ROW(ARGUMENT, negative_prompt, NO_UTF8);
    OPTIONS_ROW(ARGUMENT, setting_count, 1); /* with NULL for the settings */
    OPTIONS_ROW(OPTION, task, "nonsense");
    OPTIONS_ROW(OPTION, task, "");
    OPTIONS_ROW(OPTION, sampler, "nonsense");
    OPTIONS_ROW(OPTION, prompt, "words that a bundle without a text encoder does not know");
    OPTIONS_ROW(OPTION, upscale, 0);
    OPTIONS_ROW(OPTION, upscale, -1);
    OPTIONS_ROW(OPTION, upscale, INFINITY);
    OPTIONS_ROW(OPTION, cfg_scale, INFINITY);
    OPTIONS_ROW(OPTION, cfg_scale, -INFINITY);
    OPTIONS_ROW(OPTION, strength, INFINITY);
    OPTIONS_ROW(OPTION, guidance_scale, INFINITY);
    OPTIONS_ROW(OPTION, seed, -2);
    OPTIONS_ROW(OPTION, steps, UINT32_MAX);
    SETTING_ROW(ARGUMENT, NULL);
    SETTING_ROW(ARGUMENT, NO_UTF8);
    SETTING_ROW(OPTION, "sampling.nonsense=1");
    SETTING_ROW(OPTION, "nonsense.steps=1");
    SETTING_ROW(OPTION, "no equals sign");
    SETTING_ROW(OPTION, "");
    SETTING_ROW(OPTION, "=");
    SETTING_ROW(OPTION, "sampling.steps=many");
    SETTING_ROW(OPTION, "sampling.steps=[");
    SETTING_ROW(OPTION, "runtime.memory=keep");
    SETTING_ROW(OPTION, "runtime.providers=[cuda]");
    SETTING_ROW(OPTION, "runtime.library=/elsewhere");
    SETTING_ROW(OPTION, "bundle=/elsewhere");
    SETTING_ROW(OPTION, "tiling.cldm=9:8");
}

#define ENGINE_ROW(code, field, value)                             \
    do {                                                           \
        diffbir_engine_options wrong;                              \
        DIFFBIR_INIT(diffbir_engine_options, &wrong);              \
        wrong.bundle = bundle;                                     \
        wrong.field = (value);                                     \
        FAILS(code, diffbir_engine_new(&wrong, (diffbir_engine **)&out)); \
        CHECK(out == UNTOUCHED);                                   \
    } while (0)

static void engines(const char *bundle, const char *scratch) {
    char file[4096];
    const char *const contents[] = {"runtime: [unbalanced", "nonsense: 1", "- 1", "sampling: {steps: many}", "\xff\xfe"};
    for (size_t k = 0; k < sizeof contents / sizeof *contents; k++) {
        snprintf(file, sizeof file, "%s/bad-%zu.yaml", scratch, k);
        FILE *stream = fopen(file, "wb");
        CHECK(stream != NULL && fputs(contents[k], stream) >= 0 && fclose(stream) == 0);
        ENGINE_ROW(DIFFBIR_CODE_CONFIG, config_file, file);
    }
    const char *const none[] = {NULL};
    const char *const unknown[] = {"nonsense=1"};
    const char *const no_provider[] = {"runtime.providers=[nonsense]"};
    ENGINE_ROW(DIFFBIR_CODE_BUNDLE, bundle, NULL);
    ENGINE_ROW(DIFFBIR_CODE_BUNDLE, bundle, "/nowhere/at/all");
    ENGINE_ROW(DIFFBIR_CODE_BUNDLE, bundle, "");
    ENGINE_ROW(DIFFBIR_CODE_BUNDLE, bundle, "/dev/null");
    ENGINE_ROW(DIFFBIR_CODE_CONFIG, config_file, "/nowhere/at/all.yaml");
    ENGINE_ROW(DIFFBIR_CODE_CONFIG, config_yaml, "runtime: [unbalanced");
    ENGINE_ROW(DIFFBIR_CODE_CONFIG, config_yaml, "nonsense: 1");
    ENGINE_ROW(DIFFBIR_CODE_CONFIG, config_yaml, "- 1");
    ENGINE_ROW(ARGUMENT, config_yaml, NO_UTF8);
    ENGINE_ROW(ARGUMENT, setting_count, 1);
    ENGINE_ROW(DIFFBIR_CODE_RUNTIME, runtime_library, "/nowhere/libonnxruntime.so");
    const struct {
        diffbir_code code;
        const char *const *settings;
    } rows[] = {{ARGUMENT, none}, {OPTION, unknown}, {OPTION, no_provider}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        diffbir_engine_options wrong;
        DIFFBIR_INIT(diffbir_engine_options, &wrong);
        wrong.bundle = bundle;
        wrong.settings = rows[k].settings;
        wrong.setting_count = 1;
        FAILS(rows[k].code, diffbir_engine_new(&wrong, (diffbir_engine **)&out));
        CHECK(out == UNTOUCHED);
    }
}

#define ENCODE_ROW(code, field, value)                             \
    do {                                                           \
        diffbir_encode_options wrong;                              \
        DIFFBIR_INIT(diffbir_encode_options, &wrong);              \
        wrong.field = (value);                                     \
        FAILS(code, diffbir_image_encode(image, &wrong, (uint8_t **)&out, &out_size)); \
        CHECK(out == UNTOUCHED && out_size == 77);                 \
    } while (0)

static void files(const char *scratch) {
    char path[4096];
    char other[4096];
    diffbir_encode_options options;
    ENCODE_ROW(OPTION, format, "nonsense");
    ENCODE_ROW(OPTION, format, "");
    ENCODE_ROW(ARGUMENT, format, NO_UTF8);
    ENCODE_ROW(OPTION, quality, 101);
    ENCODE_ROW(OPTION, quality, UINT32_MAX);

    /* What is there is not replaced, unless asked for. */
    snprintf(path, sizeof path, "%s/folder/there.png", scratch);
    OK(diffbir_image_write(image, path, NULL));
    FAILS(OPTION, diffbir_image_write(image, path, NULL));
    DIFFBIR_INIT(diffbir_encode_options, &options);
    options.overwrite = 1;
    OK(diffbir_image_write(image, path, &options));
    FAILS(OPTION, diffbir_restore_file(engine, path, path, NULL));

    /* Places where no file can be. */
    snprintf(other, sizeof other, "%s/folder/there.png/under.png", scratch);
    FAILS(DIFFBIR_CODE_INPUT, diffbir_image_write(image, other, NULL));
    snprintf(other, sizeof other, "%s/folder", scratch);
    FAILS(DIFFBIR_CODE_INPUT, diffbir_image_write(image, other, &options));
    FAILS(OPTION, diffbir_image_write(image, other, NULL));

    /* A path is bytes, not text. */
    snprintf(other, sizeof other, "%s/%s.png", scratch, NO_UTF8);
    OK(diffbir_image_write(image, other, NULL));

    /* Inputs that are none. */
    diffbir_request *fresh = NULL;
    OK(diffbir_request_new(engine, &fresh));
    diffbir_options one_step = tiny_options(1);
    OK(diffbir_request_set_options(fresh, &one_step));
    const char *const inputs[] = {"/nowhere/at/all.png", "", "/dev/null", scratch};
    for (size_t k = 0; k < sizeof inputs / sizeof *inputs; k++) {
        OK(diffbir_request_set_file(fresh, inputs[k]));
        FAILS(DIFFBIR_CODE_INPUT, diffbir_request_run(fresh));
        snprintf(other, sizeof other, "%s/never.png", scratch);
        FAILS(DIFFBIR_CODE_INPUT, diffbir_restore_file(engine, inputs[k], other, NULL));
    }
    OK(diffbir_request_set_bytes(fresh, (const uint8_t *)"\x89PNG\r\n\x1a\n, and no more", 20));
    FAILS(DIFFBIR_CODE_INPUT, diffbir_request_run(fresh));
    FAILS(DIFFBIR_CODE_INPUT, diffbir_request_image(fresh, 0, (diffbir_image **)&out));
    FAILS(DIFFBIR_CODE_INPUT, diffbir_request_provenance(fresh, (char **)&out));
    CHECK(out == UNTOUCHED);
    CHECK(diffbir_request_sample_count(fresh) == 0);

    /* The request is none the worse for it. */
    OK(diffbir_request_set_file(fresh, path));
    OK(diffbir_request_run(fresh));
    CHECK(diffbir_request_sample_count(fresh) == 1);
    diffbir_request_free(fresh);
}

/* Holds a request in its first event until told to let it go. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool inside;
    bool open;
} gate;

static int hold(const diffbir_progress *progress, void *user_data) {
    gate *at = user_data;
    (void)progress;
    pthread_mutex_lock(&at->lock);
    at->inside = true;
    pthread_cond_broadcast(&at->changed);
    while (!at->open) {
        pthread_cond_wait(&at->changed, &at->lock);
    }
    pthread_mutex_unlock(&at->lock);
    return 1;
}

static void states(const char *bundle) {
    uint8_t values[TINY_BYTES];
    diffbir_pixels pixels = tiny_pixels(values);
    diffbir_request *fresh = NULL;
    bool flag = false;

    /* Before there is an input, and before there is a result. */
    OK(diffbir_request_new(engine, &fresh));
    FAILS(STATE, diffbir_request_run(fresh));
    FAILS(STATE, diffbir_request_submit(fresh));
    FAILS(STATE, diffbir_request_poll(fresh, &flag));
    FAILS(STATE, diffbir_request_wait(fresh, DIFFBIR_FOREVER, &flag));
    FAILS(STATE, diffbir_request_wait(fresh, 0, NULL));
    FAILS(STATE, diffbir_request_image(fresh, 0, (diffbir_image **)&out));
    FAILS(STATE, diffbir_request_provenance(fresh, (char **)&out));
    CHECK(diffbir_request_sample_count(fresh) == 0);
    diffbir_request_free(fresh);
    fresh = tiny_request(engine, 1, 1);
    FAILS(STATE, diffbir_request_image(fresh, 0, (diffbir_image **)&out));
    CHECK(out == UNTOUCHED);

    /* While it is at work. */
    gate at = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false};
    diffbir_options options = tiny_options(1);
    OK(diffbir_request_set_progress(fresh, hold, &at, NULL));
    OK(diffbir_request_submit(fresh));
    pthread_mutex_lock(&at.lock);
    while (!at.inside) {
        pthread_cond_wait(&at.changed, &at.lock);
    }
    pthread_mutex_unlock(&at.lock);
    FAILS(STATE, diffbir_request_submit(fresh));
    FAILS(STATE, diffbir_request_run(fresh));
    FAILS(STATE, diffbir_request_set_file(fresh, "in.png"));
    FAILS(STATE, diffbir_request_set_bytes(fresh, values, sizeof values));
    FAILS(STATE, diffbir_request_set_pixels(fresh, &pixels));
    FAILS(STATE, diffbir_request_set_options(fresh, &options));
    FAILS(STATE, diffbir_request_set_progress(fresh, NULL, NULL, NULL));
    FAILS(STATE, diffbir_request_set_cancel(fresh, cancel));
    FAILS(STATE, diffbir_request_image(fresh, 0, (diffbir_image **)&out));
    FAILS(STATE, diffbir_request_provenance(fresh, (char **)&out));
    CHECK(diffbir_request_sample_count(fresh) == 0 && out == UNTOUCHED);
    flag = true;
    OK(diffbir_request_poll(fresh, &flag));
    CHECK(!flag);
    flag = true;
    OK(diffbir_request_wait(fresh, 1, &flag));
    CHECK(!flag);
    pthread_mutex_lock(&at.lock);
    at.open = true;
    pthread_cond_broadcast(&at.changed);
    pthread_mutex_unlock(&at.lock);
    OK(diffbir_request_wait(fresh, DIFFBIR_FOREVER, &flag));
    CHECK(flag);

    /* Beyond what there is. */
    FAILS(ARGUMENT, diffbir_request_image(fresh, 1, (diffbir_image **)&out));
    FAILS(ARGUMENT, diffbir_request_image(fresh, SIZE_MAX, (diffbir_image **)&out));
    CHECK(out == UNTOUCHED);

    /* A change drops the result. */
    OK(diffbir_request_set_pixels(fresh, &pixels));
    FAILS(STATE, diffbir_request_image(fresh, 0, (diffbir_image **)&out));
    CHECK(diffbir_request_sample_count(fresh) == 0);
    diffbir_request_free(fresh);

    /* After the engine has gone. */
    diffbir_engine *gone = open_engine(bundle, 0, 0);
    fresh = tiny_request(gone, 1, 1);
    diffbir_engine_free(gone);
    FAILS(STATE, diffbir_request_run(fresh));
    FAILS(STATE, diffbir_request_submit(fresh));
    OK(diffbir_request_set_pixels(fresh, &pixels));
    FAILS(ARGUMENT, diffbir_request_new(gone, (diffbir_request **)&out));
    CHECK(out == UNTOUCHED);
    diffbir_request_free(fresh);
}

/* Data that the library owns: how often it was freed, and whether a function that uses it was running. */
typedef struct {
    int frees;
    bool running;
} owned;

static void free_owned(void *user_data) {
    owned *data = user_data;
    CHECK(!data->running);
    data->frees++;
}

static void log_owned(uint32_t level, const char *message, void *user_data) {
    CHECK(level != 0 && message != NULL && ((owned *)user_data)->frees == 0);
}

/* A request that its own progress function frees. */
typedef struct {
    owned data;
    diffbir_request *request;
} freeing;

static int free_request(const diffbir_progress *progress, void *user_data) {
    freeing *own = user_data;
    (void)progress;
    own->data.running = true;
    diffbir_request_free(own->request);
    CHECK(own->data.frees == 0);
    own->data.running = false;
    return 1;
}

/* Freed exactly once, whatever becomes of the call. */
static void ownership(const char *bundle) {
    owned first = {0, false};
    owned second = {0, false};
    int refused = 0;
    EACH_BAD(request, (FAILS(ARGUMENT, diffbir_request_set_progress(h, go_on, &first, free_owned)), refused++));
    CHECK(first.frees == refused);
    first.frees = 0;
    diffbir_request *fresh = tiny_request(engine, 1, 1);
    OK(diffbir_request_set_progress(fresh, go_on, &first, free_owned));
    CHECK(first.frees == 0);
    OK(diffbir_request_run(fresh));
    OK(diffbir_request_run(fresh));
    CHECK(first.frees == 0);
    OK(diffbir_request_set_progress(fresh, go_on, &second, free_owned));
    CHECK(first.frees == 1 && second.frees == 0);
    diffbir_request_free(fresh);
    diffbir_request_free(fresh);
    CHECK(second.frees == 1);
    /* Without a function, nobody needs the data. */
    OK(diffbir_request_set_progress(request, NULL, &second, free_owned));
    CHECK(second.frees == 2);

    for (int submitted = 0; submitted < 2; submitted++) {
        freeing own = {{0, false}, tiny_request(engine, 1, 1)};
        diffbir_request *self = own.request;
        OK(diffbir_request_set_progress(self, free_request, &own.data, free_owned));
        if (submitted == 0) {
            FAILS(DIFFBIR_CODE_CANCELLED, diffbir_request_run(self));
        } else {
            diffbir_request *behind = tiny_request(engine, 1, 1);
            OK(diffbir_request_submit(self));
            OK(diffbir_request_submit(behind));
            OK(diffbir_request_wait(behind, DIFFBIR_FOREVER, NULL));
            diffbir_request_free(behind);
        }
        CHECK(own.data.frees == 1);
    }

    diffbir_engine_options options;
    DIFFBIR_INIT(diffbir_engine_options, &options);
    owned log = {0, false};
    options.log = log_owned;
    options.log_data = &log;
    options.log_free = free_owned;
    options.struct_size = 1;
    FAILS(ARGUMENT, diffbir_engine_new(&options, (diffbir_engine **)&out));
    CHECK(log.frees == 0); /* nothing was read */
    options.struct_size = sizeof options;
    FAILS(DIFFBIR_CODE_BUNDLE, diffbir_engine_new(&options, (diffbir_engine **)&out));
    CHECK(log.frees == 1);
    log.frees = 0;
    options.bundle = bundle;
    FAILS(ARGUMENT, diffbir_engine_new(&options, NULL));
    CHECK(log.frees == 1);
    log.frees = 0;
    diffbir_engine *logged = NULL;
    OK(diffbir_engine_new(&options, &logged));
    fresh = tiny_request(logged, 1, 1);
    CHECK(log.frees == 0);
    diffbir_engine_free(logged);
    CHECK(log.frees == 1);
    diffbir_request_free(fresh);
}

/* What a progress function may not wait for: itself, and what is behind it in the queue. */
typedef struct {
    diffbir_request *self;
    diffbir_request *queued;
    int refused;
} waiting;

static int wait_inside(const diffbir_progress *progress, void *user_data) {
    waiting *own = user_data;
    diffbir_request *const both[] = {own->self, own->queued};
    bool flag = true;
    (void)progress;
    for (int k = 0; k < 2; k++) {
        FAILS(STATE, diffbir_request_wait(both[k], DIFFBIR_FOREVER, &flag));
        FAILS(STATE, diffbir_request_wait(both[k], 1, &flag));
        CHECK(flag);
        OK(diffbir_request_poll(both[k], &flag));
        CHECK(!flag);
        flag = true;
        own->refused++;
    }
    OK(diffbir_request_wait(done, DIFFBIR_FOREVER, &flag)); /* has ended already */
    CHECK(flag);
    return 1;
}

static void waits(void) {
    gate at = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false};
    diffbir_request *before = tiny_request(engine, 1, 1);
    waiting own = {tiny_request(engine, 1, 1), tiny_request(engine, 1, 1), 0};
    OK(diffbir_request_set_progress(before, hold, &at, NULL));
    OK(diffbir_request_set_progress(own.self, wait_inside, &own, NULL));
    OK(diffbir_request_submit(before));
    OK(diffbir_request_submit(own.self));
    OK(diffbir_request_submit(own.queued));
    pthread_mutex_lock(&at.lock);
    at.open = true;
    pthread_cond_broadcast(&at.changed);
    pthread_mutex_unlock(&at.lock);
    OK(diffbir_request_wait(own.self, DIFFBIR_FOREVER, NULL));
    OK(diffbir_request_wait(own.queued, DIFFBIR_FOREVER, NULL));
    CHECK(own.refused > 0);
    diffbir_request_free(before);
    diffbir_request_free(own.self);
    diffbir_request_free(own.queued);
}

/* Numbers and pictures of no good will: each gets its code, and the host goes on. */
static void hostile(void) {
    const struct {
        diffbir_code code;
        const char *setting;
    } rows[] = {
        {OPTION, "sampling.samples=-1"},
        {OPTION, "sampling.samples=0"},
        {OPTION, "sampling.samples=1e30"},
        {OPTION, "sampling.samples=18446744073709551615"},
        {OPTION, "sampling.samples=18446744073709551616"},
        {OPTION, "sampling.steps=18446744073709551615"},
        {OPTION, "sampling.seed=18446744073709551616"},
        {OPTION, "sampling.cfg_scale=.inf"},
        {OPTION, "restore.upscale=.nan"},
        {OPTION, "restore.upscale=1e18"},
        {OPTION, "restore.upscale=1e300"},
        {OPTION, "restore.upscale=-.inf"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        const char *const settings[] = {rows[k].setting};
        diffbir_options options = tiny_options(1);
        options.settings = settings;
        options.setting_count = 1;
        FAILS(rows[k].code, diffbir_request_set_options(request, &options));
    }

    /* A BMP of a few bytes whose header claims more pixels than memory has. */
    static const uint8_t header[] = {'B',  'M',  64,   0,    0,    0, 0, 0, 0, 0, 54, 0, 0,  0, 40, 0, 0, 0, 255,
                                     255, 255, 127, 255, 255, 255, 127, 1, 0, 24, 0, 0, 0, 0, 0};
    uint8_t bomb[64] = {0};
    memcpy(bomb, header, sizeof header);
    diffbir_request *fresh = tiny_request(engine, 1, 1);
    OK(diffbir_request_set_bytes(fresh, bomb, sizeof bomb));
    FAILS(DIFFBIR_CODE_INPUT, diffbir_request_run(fresh));
    OK(diffbir_request_submit(fresh));
    FAILS(DIFFBIR_CODE_INPUT, diffbir_request_wait(fresh, DIFFBIR_FOREVER, NULL));
    diffbir_request_free(fresh);
}

/* The library's own defect, and that it is none the worse for it. */
static void panics(void) {
    for (int k = 0; k < 3; k++) {
        FAILS(DIFFBIR_CODE_PANIC, diffbir_test_panic());
    }
    diffbir_request *after = tiny_request(engine, 1, 1);
    OK(diffbir_request_run(after));
    diffbir_image *same = NULL;
    OK(diffbir_request_image(after, 0, &same));
    CHECK(memcmp(diffbir_image_data(same), diffbir_image_data(image), TINY_BYTES) == 0);
    diffbir_image_free(same);
    diffbir_request_free(after);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    const char *bundle = argv[1];
    CHECK(diffbir_live_handles() == 0);
    engine = open_engine(bundle, 0, 0);
    done = tiny_request(engine, 1, 1);
    OK(diffbir_request_run(done));
    OK(diffbir_request_image(done, 0, &image));
    OK(diffbir_request_new(engine, &request));
    failure = diffbir_abi_check(0);
    OK(diffbir_cancel_new(&cancel));
    out = UNTOUCHED;
    out_size = 77;

    /* Handles that were sound once. */
    diffbir_engine *freed_engine = open_engine(bundle, 0, 0);
    diffbir_request *freed_request = tiny_request(engine, 1, 1);
    diffbir_image *freed_image = NULL;
    OK(diffbir_request_image(done, 0, &freed_image));
    diffbir_error *freed_error = diffbir_abi_check(0);
    diffbir_cancel *freed_cancel = NULL;
    OK(diffbir_cancel_new(&freed_cancel));
    freed[0] = freed_engine;
    freed[1] = freed_request;
    freed[2] = freed_image;
    freed[3] = freed_error;
    freed[4] = freed_cancel;
    diffbir_engine_free(freed_engine);
    diffbir_request_free(freed_request);
    diffbir_image_free(freed_image);
    diffbir_error_free(freed_error);
    diffbir_cancel_free(freed_cancel);
    CHECK(diffbir_live_handles() == 6);

    pointers();
    structures();
    pixels();
    options();
    engines(bundle, argv[2]);
    files(argv[2]);
    states(bundle);
    ownership(bundle);
    waits();
    hostile();
    panics();

    CHECK(diffbir_live_handles() == 6);
    diffbir_request_free(request);
    diffbir_request_free(done);
    diffbir_engine_free(engine);
    CHECK(diffbir_image_width(image) == SIDE); /* outlives both */
    diffbir_image_free(image);
    diffbir_error_free(failure);
    diffbir_cancel_free(cancel);
    CHECK(diffbir_live_handles() == 0);
    printf("%lu wrong calls of %lu kinds: each is refused, none ends the host\n", refused_calls, refused_kinds);
    return 0;
}
