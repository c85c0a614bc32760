/* Restores a picture from file to file and shows progress. C11. */

#include <diffbir.h>
#include <stdio.h>
#include <stdlib.h>

/* Says what went wrong and frees it; whether there was anything. */
static int failed(diffbir_error *error) {
  if (error == NULL) return 0;
  fprintf(stderr, "error: %s\n", diffbir_error_message(error));
  diffbir_error_free(error);
  return 1;
}

static int show(const diffbir_progress *progress, void *user_data) {
  FILE *out = user_data;
  switch (progress->event) {
    case DIFFBIR_EVENT_STEP:
      fprintf(out, "%s: step %u of %u\n", progress->stage, progress->step, progress->total);
      break;
    case DIFFBIR_EVENT_STAGE_FINISHED:
      fprintf(out, "%s: %.2f s\n", progress->stage, progress->seconds);
      break;
    default: /* Others, and those of later libraries, are passed over. */
      break;
  }
  return 1; /* 0 would stop the request. */
}

static diffbir_error *set_up(diffbir_request *request, const char *input, const char *const *settings, size_t count) {
  diffbir_options options;
  DIFFBIR_INIT(diffbir_options, &options);
  options.settings = settings;
  options.setting_count = count;
  diffbir_error *error = diffbir_request_set_options(request, &options);
  if (error == NULL) error = diffbir_request_set_file(request, input);
  if (error == NULL) error = diffbir_request_set_progress(request, show, stderr, NULL);
  return error;
}

/* Each handle starts as NULL and is freed at the end whether it was made or not: freeing NULL does nothing. */
static int restore(const char *bundle, const char *input, const char *output, const char *const *settings,
                   size_t count) {
  diffbir_engine *engine = NULL;
  diffbir_request *request = NULL;
  diffbir_image *image = NULL;
  diffbir_engine_options options;
  DIFFBIR_INIT(diffbir_engine_options, &options);
  options.bundle = bundle;

  int ok = !failed(DIFFBIR_ABI_CHECK()) && !failed(diffbir_engine_new(&options, &engine)) &&
           !failed(diffbir_request_new(engine, &request)) && !failed(set_up(request, input, settings, count)) &&
           !failed(diffbir_request_run(request)) && !failed(diffbir_request_image(request, 0, &image)) &&
           !failed(diffbir_image_write(image, output, NULL));

  diffbir_image_free(image);
  diffbir_request_free(request);
  diffbir_engine_free(engine);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: %s BUNDLE INPUT OUTPUT [KEY=VALUE ...]\n", argv[0]);
    return 2;
  }
  return restore(argv[1], argv[2], argv[3], (const char *const *)(argv + 4), (size_t)(argc - 4));
}
