/* old_host BUNDLE
 *
 * Hosts and libraries of different age. Compiled against today's header, it holds the structures against what version 1
 * of the ABI promised: a library of any later version reads them from hosts that were compiled today. Compiled with
 * -DGROWN against a copy of the header whose structures have one field more, `appended`, it is tomorrow's host on today's
 * library: fine as long as it leaves alone what is new. */

#include "common.h"

#include <stddef.h>

/* What a host may find in an option structure: a library reads at least these bytes, and refuses fewer. */
enum { FIRST_ENGINE_OPTIONS = 88, FIRST_OPTIONS = 104, FIRST_PIXELS = 64, FIRST_ENCODE_OPTIONS = 32 };

#if UINTPTR_MAX == UINT64_MAX
/* Where the last field of version 1 stands and ends. What is appended later comes behind it. */
#define ENDS(type, field, size) \
    _Static_assert(offsetof(type, field) + sizeof(((type *)0)->field) == (size), #type)
ENDS(diffbir_engine_options, log_free, FIRST_ENGINE_OPTIONS);
ENDS(diffbir_options, setting_count, FIRST_OPTIONS);
ENDS(diffbir_pixels, plane_stride, FIRST_PIXELS);
ENDS(diffbir_encode_options, reserved, FIRST_ENCODE_OPTIONS);
ENDS(diffbir_progress, seconds, 56);
#if DIFFBIR_ABI_VERSION == 1 && !defined(GROWN)
_Static_assert(sizeof(diffbir_engine_options) == FIRST_ENGINE_OPTIONS, "appended without a new version");
_Static_assert(sizeof(diffbir_options) == FIRST_OPTIONS, "appended without a new version");
_Static_assert(sizeof(diffbir_pixels) == FIRST_PIXELS, "appended without a new version");
_Static_assert(sizeof(diffbir_encode_options) == FIRST_ENCODE_OPTIONS, "appended without a new version");
_Static_assert(sizeof(diffbir_progress) == 56, "appended without a new version");
#endif
#endif

/* Calls `call` with `structure` as this host has it, then in ways of which the library has to refuse some. */
#ifdef GROWN
#define HOST(structure, first, call)            \
    do {                                        \
        (void)(first);                          \
        CHECK((structure).appended == 0);       \
        OK(call);                               \
        (structure).appended = 1;               \
        FAILS(DIFFBIR_CODE_ABI, call);          \
        (structure).appended = 0;               \
        OK(call);                               \
    } while (0)
#else
#define HOST(structure, first, call)                                          \
    do {                                                                      \
        CHECK((structure).struct_size == sizeof(structure));                  \
        OK(call);                                                             \
        (structure).struct_size = (first);                                    \
        OK(call);                                                             \
        (structure).struct_size = (first)-1;                                  \
        FAILS(DIFFBIR_CODE_INVALID_ARGUMENT, call);                           \
        (structure).struct_size = sizeof(structure);                          \
        OK(call);                                                             \
    } while (0)
#endif

int main(int argc, char **argv) {
    CHECK(argc == 2);
    OK(DIFFBIR_ABI_CHECK());

    diffbir_engine_options engine_options;
    DIFFBIR_INIT(diffbir_engine_options, &engine_options);
    engine_options.bundle = argv[1];
    diffbir_engine *engine = NULL;
    HOST(engine_options, FIRST_ENGINE_OPTIONS,
         (diffbir_engine_free(engine), diffbir_engine_new(&engine_options, &engine)));

    uint8_t values[TINY_BYTES];
    diffbir_pixels pixels = tiny_pixels(values);
    diffbir_options options = tiny_options(1);
    diffbir_request *request = NULL;
    OK(diffbir_request_new(engine, &request));
    HOST(pixels, FIRST_PIXELS, diffbir_request_set_pixels(request, &pixels));
    HOST(options, FIRST_OPTIONS, diffbir_request_set_options(request, &options));
    OK(diffbir_request_run(request));

    diffbir_image *image = NULL;
    OK(diffbir_request_image(request, 0, &image));
    HOST(pixels, FIRST_PIXELS, diffbir_image_copy(image, &pixels));
    CHECK(memcmp(values, diffbir_image_data(image), TINY_BYTES) == 0);

    diffbir_encode_options encoding;
    DIFFBIR_INIT(diffbir_encode_options, &encoding);
    encoding.format = "bmp";
    uint8_t *data = NULL;
    size_t size = 0;
    HOST(encoding, FIRST_ENCODE_OPTIONS,
         (diffbir_bytes_free(data, size), data = NULL, diffbir_image_encode(image, &encoding, &data, &size)));
    CHECK(size > TINY_BYTES && memcmp(data, "BM", 2) == 0);
    diffbir_bytes_free(data, size);

    diffbir_image_free(image);
    diffbir_request_free(request);
    diffbir_engine_free(engine);
    CHECK(diffbir_live_handles() == 0);
    return 0;
}
