/* What the hosts in this folder share: checks that name their line, an engine on the tiny bundle, a tiny picture. */

#ifndef DIFFBIR_TESTS_COMMON_H
#define DIFFBIR_TESTS_COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diffbir.h"

/* Not assert(): that one disappears with NDEBUG. */
#define CHECK(condition)                                                                                  \
    do {                                                                                                  \
        if (!(condition)) {                                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                       \
            exit(1);                                                                                      \
        }                                                                                                 \
    } while (0)

/* Ends the test where a call fails that has to succeed. */
#define OK(call) expect_ok(__FILE__, __LINE__, #call, (call))

/* Ends the test unless the call fails with this code, and with an error that keeps the header's promises. */
#define FAILS(code, call) expect_failure(__FILE__, __LINE__, #call, (code), (call))

static inline void expect_ok(const char *file, int line, const char *call, diffbir_error *error) {
    if (error == NULL) {
        return;
    }
    fprintf(stderr, "%s:%d: %s: code %d: %s\n", file, line, call, (int)diffbir_error_code(error),
            diffbir_error_message(error));
    exit(1);
}

/* Wrong calls that were refused, and the lines that made them: their kinds. */
static unsigned long refused_calls, refused_kinds;

static inline void count_refusal(int line) {
    static unsigned char seen[4096];
    refused_calls++;
    if (!seen[line % 4096]) {
        seen[line % 4096] = 1;
        refused_kinds++;
    }
}

static inline void expect_failure(const char *file, int line, const char *call, diffbir_code code,
                                  diffbir_error *error) {
    const char *message = diffbir_error_message(error);
    const char *cause = diffbir_error_cause(error);
    const char *wrong = NULL;
    if (error == NULL) {
        wrong = "succeeded";
    } else if (diffbir_error_code(error) != code) {
        wrong = "another code";
    } else if (message == NULL || message[0] == '\0') {
        wrong = "no message";
    } else if (strchr(message, '\n') != NULL) {
        wrong = "the message is not one line";
    } else if (cause != NULL && strstr(message, cause) == NULL) {
        wrong = "the message is without its cause";
    }
    if (wrong != NULL) {
        fprintf(stderr, "%s:%d: %s: %s; expected code %d, got %d: %s\n", file, line, call, wrong, (int)code,
                (int)diffbir_error_code(error), message == NULL ? "no message" : message);
        exit(1);
    }
    diffbir_error_free(error);
    /* Freed is freed: nothing can be read through the handle any more. */
    if (diffbir_error_code(error) != DIFFBIR_CODE_INVALID_ARGUMENT || diffbir_error_message(error) != NULL ||
        diffbir_error_cause(error) != NULL) {
        fprintf(stderr, "%s:%d: %s: the freed error still speaks\n", file, line, call);
        exit(1);
    }
    count_refusal(line);
}

enum { SIDE = 16, TINY_BYTES = 3 * SIDE * SIDE };

/* The smallest work there is: 16x16, which the bundle enlarges to its shortest edge. */
static inline diffbir_pixels tiny_pixels(uint8_t values[TINY_BYTES]) {
    diffbir_pixels pixels;
    DIFFBIR_INIT(diffbir_pixels, &pixels);
    for (int k = 0; k < TINY_BYTES; k++) {
        values[k] = (uint8_t)(7 * k);
    }
    pixels.data = values;
    pixels.size = TINY_BYTES;
    pixels.width = SIDE;
    pixels.height = SIDE;
    return pixels;
}

/* `ddim` may do with one step; the bundle's own sampler wants two. */
static inline diffbir_options tiny_options(uint32_t steps) {
    diffbir_options options;
    DIFFBIR_INIT(diffbir_options, &options);
    options.sampler = "ddim";
    options.upscale = 1;
    options.seed = 1;
    options.steps = steps;
    return options;
}

/* `threads`: of ONNX Runtime, 0 for as many as there are. */
static inline diffbir_engine *open_engine(const char *bundle, uint32_t queue_limit, int threads) {
    char setting[64];
    snprintf(setting, sizeof setting, "runtime.providers=[{cpu: {threads: %d}}]", threads);
    const char *settings[] = {setting};
    diffbir_engine_options options;
    DIFFBIR_INIT(diffbir_engine_options, &options);
    options.bundle = bundle;
    options.settings = settings;
    options.setting_count = 1;
    options.queue_limit = queue_limit;
    diffbir_engine *engine = NULL;
    OK(diffbir_engine_new(&options, &engine));
    CHECK(engine != NULL);
    return engine;
}

/* A request for the tiny picture. */
static inline diffbir_request *tiny_request(const diffbir_engine *engine, uint32_t steps, int64_t seed) {
    uint8_t values[TINY_BYTES];
    diffbir_pixels pixels = tiny_pixels(values);
    diffbir_options options = tiny_options(steps);
    options.seed = seed;
    diffbir_request *request = NULL;
    OK(diffbir_request_new(engine, &request));
    OK(diffbir_request_set_pixels(request, &pixels));
    OK(diffbir_request_set_options(request, &options));
    return request;
}

#endif
