/* The C ABI of diffbir, the deployment engine for DiffBIR on ONNX Runtime.
 *
 * Generated from src/capi by cbindgen; docs/embedding.md is the guide.
 *
 * Objects are opaque handles: diffbir_X_new makes one, diffbir_X_free ends it. A handle that is NULL, freed or of
 * another type is refused with an error and never touched; freeing such a one does nothing.
 *
 * Functions that can fail return a diffbir_error that the caller frees; NULL is success. What a function gives back
 * through a pointer stays as it was where the function fails. No call ends the process, and no panic leaves the library.
 *
 * Structures begin with struct_size. Fill them with DIFFBIR_INIT before you set fields; then a host goes on working with
 * a later library. Enumerations are passed as uint32_t.
 *
 * Strings are UTF-8 (paths: any bytes on Unix) and end in NUL. What the host passes in is copied during the call.
 *
 * Threads: every function may be called from any thread. Each handle's type says what threads may do with one at once.
 *
 * Exit: a host that returns from main or calls exit() need not free anything first. Requests at work are stopped, and exit
 * waits for the graph that is running, for an engine that is being made, unless it is the first, and for one second for
 * progress functions. Afterwards nothing begins any more, and a progress function that returns keeps its thread. Not so
 * with _exit(), which ends at once, and on Windows: there, free the engines first.
 */

#ifndef DIFFBIR_H
#define DIFFBIR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Fills a structure with its defaults: DIFFBIR_INIT(diffbir_options, &options). */
#define DIFFBIR_INIT(type, place) type##_init((place), sizeof(type))

/* NULL, or an error where this header is newer than the library. */
#define DIFFBIR_ABI_CHECK() diffbir_abi_check(DIFFBIR_ABI_VERSION)

#ifdef DIFFBIR_TEST_HOOKS
/* Panics inside the library, for tests: returns an error with DIFFBIR_CODE_PANIC. */
#ifdef __cplusplus
extern "C"
#endif
struct diffbir_error *diffbir_test_panic(void);
#endif


/**
 * The version of the ABI. Increased by additions; nothing is ever removed or changed.
 */
#define DIFFBIR_ABI_VERSION 1

/**
 * A timeout that never ends.
 */
#define DIFFBIR_FOREVER UINT32_MAX

/**
 * Error codes, by who can fix the error. A code is never reused; a retired one stays here as a comment.
 */
typedef enum diffbir_code {
  /**
   * Success: the code of NULL.
   */
  DIFFBIR_CODE_OK = 0,
  /**
   * A picture that cannot be read, or a result that cannot be written.
   */
  DIFFBIR_CODE_INPUT = 1,
  /**
   * An option that is not accepted or not served by the bundle.
   */
  DIFFBIR_CODE_OPTION = 2,
  /**
   * A configuration that is not valid.
   */
  DIFFBIR_CODE_CONFIG = 3,
  /**
   * A bundle that is damaged, incomplete or of another format.
   */
  DIFFBIR_CODE_BUNDLE = 4,
  /**
   * ONNX Runtime or an execution provider is missing or failed.
   */
  DIFFBIR_CODE_RUNTIME = 5,
  /**
   * The work does not fit the machine's memory.
   */
  DIFFBIR_CODE_RESOURCES = 6,
  /**
   * The request was cancelled.
   */
  DIFFBIR_CODE_CANCELLED = 7,
  /**
   * A defect of the library.
   */
  DIFFBIR_CODE_INTERNAL = 8,
  /**
   * A call that breaks a rule of this header: NULL, a freed handle, a wrong size, an unknown value.
   */
  DIFFBIR_CODE_INVALID_ARGUMENT = 9,
  /**
   * A call that does not fit the object's state, such as asking a request for a result before it has one.
   */
  DIFFBIR_CODE_INVALID_STATE = 10,
  /**
   * The host was compiled against a newer header than this library's.
   */
  DIFFBIR_CODE_ABI = 11,
  /**
   * The engine's queue is full.
   */
  DIFFBIR_CODE_BUSY = 12,
  /**
   * A defect of the library: it panicked. The engine remains usable.
   */
  DIFFBIR_CODE_PANIC = 13,
  /**
   * Values became infinite or NaN during restoration: an option far out of range, or a graph that overflows.
   */
  DIFFBIR_CODE_NOT_FINITE = 14,
} diffbir_code;

/**
 * Level of a log message.
 */
typedef enum diffbir_log_level {
  /**
   * Progress.
   */
  DIFFBIR_LOG_LEVEL_INFO = 1,
  /**
   * A result or a run differs from what may be expected.
   */
  DIFFBIR_LOG_LEVEL_WARNING = 2,
} diffbir_log_level;

/**
 * Kind of a progress event.
 */
typedef enum diffbir_event {
  /**
   * A stage begins: its graph is loaded if necessary, then run.
   */
  DIFFBIR_EVENT_STAGE_STARTED = 1,
  /**
   * A sampling step is done: `step` of `total`.
   */
  DIFFBIR_EVENT_STEP = 2,
  /**
   * A tile begins: number `tile` of `tiles`.
   */
  DIFFBIR_EVENT_TILE = 3,
  /**
   * A stage is done, after `seconds`.
   */
  DIFFBIR_EVENT_STAGE_FINISHED = 4,
} diffbir_event;

/**
 * The type of a value.
 */
typedef enum diffbir_type {
  /**
   * 8 bits, 0 to 255.
   */
  DIFFBIR_TYPE_U8 = 1,
  /**
   * 16 bits, 0 to 65535, in the machine's byte order. Restored at full depth; results have 16 bits too unless
   * `output.depth` is 8.
   */
  DIFFBIR_TYPE_U16 = 2,
  /**
   * 32-bit float, 0 to 1. Rounded to 16 bits, then treated as such; values outside are clipped, NaN becomes 0.
   */
  DIFFBIR_TYPE_F32 = 3,
} diffbir_type;

/**
 * Channels of a pixel, in memory order.
 */
typedef enum diffbir_channels {
  /**
   * Red, green, blue.
   */
  DIFFBIR_CHANNELS_RGB = 1,
  /**
   * Blue, green, red, as in OpenCV.
   */
  DIFFBIR_CHANNELS_BGR = 2,
  /**
   * Red, green, blue, alpha (not premultiplied).
   */
  DIFFBIR_CHANNELS_RGBA = 3,
  /**
   * Blue, green, red, alpha (not premultiplied).
   */
  DIFFBIR_CHANNELS_BGRA = 4,
  /**
   * One channel; a colour picture is converted to Rec. 601 luma.
   */
  DIFFBIR_CHANNELS_GREY = 5,
} diffbir_channels;

/**
 * Memory layout.
 */
typedef enum diffbir_layout {
  /**
   * Interleaved: the channels of a pixel are adjacent.
   */
  DIFFBIR_LAYOUT_HWC = 1,
  /**
   * Planar: one plane per channel.
   */
  DIFFBIR_LAYOUT_CHW = 2,
} diffbir_layout;

/**
 * A cancellation handle. Thread-safe.
 */
typedef struct diffbir_cancel diffbir_cancel;

/**
 * An engine: an opened bundle that restores pictures. Thread-safe. Each set of networks runs one request at a time;
 * further requests wait.
 */
typedef struct diffbir_engine diffbir_engine;

/**
 * An error; NULL means success. Immutable, hence thread-safe.
 */
typedef struct diffbir_error diffbir_error;

/**
 * A result image, owned by the library. Immutable, hence thread-safe.
 */
typedef struct diffbir_image diffbir_image;

/**
 * A request to an engine: an input, options and, when done, a result. Not thread-safe, except that any thread may
 * stop, poll, wait for and free it.
 */
typedef struct diffbir_request diffbir_request;

/**
 * Receives log messages; `level` is a `diffbir_log_level`. `message` is valid during the call. May run on any thread,
 * also on several at once. Must not call this library.
 */
typedef void (*diffbir_log_fn)(uint32_t level, const char *message, void *user_data);

/**
 * Frees `user_data`. The library calls it exactly once, when `user_data` is not needed any more: when its callback is
 * replaced or its object freed, or at once if the callback is NULL or the call that passes it fails. May run on any
 * thread, but never while the callback runs. May free handles; must not throw or `longjmp`. NULL: the host frees
 * `user_data`.
 */
typedef void (*diffbir_free_fn)(void *user_data);

/**
 * Settings of an engine. Fill it with `diffbir_engine_options_init` first. Strings are copied during the call.
 */
typedef struct diffbir_engine_options {
  /**
   * The structure's size in the host's header; set by `_init`.
   */
  size_t struct_size;
  /**
   * Path of a YAML configuration file; see `configs/`. Relative paths in it are resolved against its folder. NULL:
   * none.
   */
  const char *config_file;
  /**
   * YAML text that overrides the file; relative paths are resolved against the working folder. NULL: none.
   */
  const char *config_yaml;
  /**
   * Folder of the bundle, in UTF-8; overrides the configuration. NULL: the configuration's.
   */
  const char *bundle;
  /**
   * `setting_count` strings `key=value` that override file and text, such as `runtime.providers=[cuda, cpu]`.
   */
  const char *const *settings;
  /**
   * Number of settings.
   */
  size_t setting_count;
  /**
   * Path of libonnxruntime, in UTF-8. NULL: the configuration's; without one, the library is searched for.
   */
  const char *runtime_library;
  /**
   * Not 0: hash every file of the bundle. 0: skip files that were verified before and have not changed.
   */
  uint32_t verify;
  /**
   * Most submitted requests that may wait in the queue; 0: 64. `diffbir_request_submit` returns `DIFFBIR_CODE_BUSY`
   * when it is full.
   */
  uint32_t queue_limit;
  /**
   * Log callback; NULL disables logging.
   */
  diffbir_log_fn log;
  /**
   * Passed to `log`.
   */
  void *log_data;
  /**
   * Frees `log_data`, after the engine is freed and the last `log` call has returned, or when `diffbir_engine_new`
   * fails, unless it fails because this structure is invalid (`struct_size`, an unknown field). NULL: the host frees
   * `log_data`.
   */
  diffbir_free_fn log_free;
} diffbir_engine_options;

/**
 * Pixels in the host's memory, in sRGB. Fill it with `diffbir_pixels_init` first. The host keeps ownership of the
 * memory.
 */
typedef struct diffbir_pixels {
  /**
   * The structure's size in the host's header; set by `_init`.
   */
  size_t struct_size;
  /**
   * The first value.
   */
  void *data;
  /**
   * Size of the buffer at `data` in bytes; nothing beyond is accessed.
   */
  size_t size;
  /**
   * Width in pixels, at least 1.
   */
  uint32_t width;
  /**
   * Height in pixels, at least 1.
   */
  uint32_t height;
  /**
   * A `diffbir_type`. Default: U8.
   */
  uint32_t value_type;
  /**
   * A `diffbir_channels`. Default: RGB.
   */
  uint32_t channels;
  /**
   * A `diffbir_layout`. Default: HWC.
   */
  uint32_t layout;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Bytes from one row to the next; 0: rows are contiguous.
   */
  size_t row_stride;
  /**
   * Bytes from one plane to the next with CHW; 0: planes are contiguous.
   */
  size_t plane_stride;
} diffbir_pixels;

/**
 * How a result is encoded. Fill it with `diffbir_encode_options_init` first.
 */
typedef struct diffbir_encode_options {
  /**
   * The structure's size in the host's header; set by `_init`.
   */
  size_t struct_size;
  /**
   * `png`, `jpeg`, `webp`, `tiff` or `bmp`. NULL: from the file name's extension, else `png`.
   */
  const char *format;
  /**
   * JPEG quality, 1 to 100. 0: the configuration's.
   */
  uint32_t quality;
  /**
   * 1 (default): write the provenance into PNG text chunks. 0: do not.
   */
  uint32_t metadata;
  /**
   * Not 0: replace an existing file. 0 (default): refuse.
   */
  uint32_t overwrite;
  /**
   * 0.
   */
  uint32_t reserved;
} diffbir_encode_options;

/**
 * Options of a request. Fill it with `diffbir_options_init` first: every field is then unset and takes its value from
 * the engine's configuration and bundle. Strings are copied during the call.
 */
typedef struct diffbir_options {
  /**
   * The structure's size in the host's header; set by `_init`.
   */
  size_t struct_size;
  /**
   * `sr`, `face` (aligned) or `denoise`. NULL: unset.
   */
  const char *task;
  /**
   * Name of the sampler; see `docs/samplers.md`. NULL: unset.
   */
  const char *sampler;
  /**
   * The positive prompt. NULL: unset.
   */
  const char *prompt;
  /**
   * The negative prompt. NULL: unset.
   */
  const char *negative_prompt;
  /**
   * Output size over input size, more than 0. NaN: unset.
   */
  double upscale;
  /**
   * Scale of classifier-free guidance; 1 disables it. NaN: unset.
   */
  double cfg_scale;
  /**
   * Weight of the ControlNet's residuals, usually 0 to 1. NaN: unset.
   */
  double strength;
  /**
   * Scale of restoration guidance, which pulls the result toward the stage-1 image; 0 disables it. NaN: unset.
   */
  double guidance_scale;
  /**
   * Seed of the noise. -1: unset.
   */
  int64_t seed;
  /**
   * Sampling steps. 0: unset.
   */
  uint32_t steps;
  /**
   * Number of samples. 0: unset.
   */
  uint32_t samples;
  /**
   * `setting_count` strings `key=value` that override the fields above: any key of the sections `restore`,
   * `size`, `sampling`, `guidance`, `tiling`, `input` and `output`, such as `tiling.cldm=512:256` or `size.width=1920`.
   */
  const char *const *settings;
  /**
   * Number of settings.
   */
  size_t setting_count;
} diffbir_options;

/**
 * Progress of a request. A newer library may append fields: check `struct_size` before reading a field that is not in
 * version 1 of the ABI.
 */
typedef struct diffbir_progress {
  /**
   * The size of this structure in the library.
   */
  size_t struct_size;
  /**
   * A `diffbir_event`; ignore unknown ones.
   */
  uint32_t event;
  /**
   * The finished sampling step, from 1; 0 for other events.
   */
  uint32_t step;
  /**
   * Number of sampling steps; 0 for other events.
   */
  uint32_t total;
  /**
   * The tile that begins, from 1; 0 for other events.
   */
  uint32_t tile;
  /**
   * Number of tiles; 0 for other events.
   */
  uint32_t tiles;
  /**
   * First sample of the current batch, from 0.
   */
  uint32_t first_sample;
  /**
   * Number of samples in the batch; 0 for events other than steps.
   */
  uint32_t sample_count;
  /**
   * `text_encoder`, `cleaner`, `vae_encoder`, `sampling`, `vae_decoder` or `finish`. Valid during the call.
   */
  const char *stage;
  /**
   * Seconds since the stage began, for a finished stage; else 0.
   */
  double seconds;
} diffbir_progress;

/**
 * Receives a request's progress, on the thread that runs it. Returns 0 to stop the request, another value to continue.
 * `progress` is valid during the call. Must not throw or `longjmp`. May call the library, but not run a request or
 * wait for one: that is refused with `INVALID_STATE`.
 */
typedef int (*diffbir_progress_fn)(const struct diffbir_progress *progress, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Creates a cancellation handle. Pass it to any number of requests with `diffbir_request_set_cancel`; free it with
 * `diffbir_cancel_free`, also while they run.
 */
struct diffbir_error *diffbir_cancel_new(struct diffbir_cancel **out);

/**
 * Stops every request with this handle: a running one ends with `DIFFBIR_CODE_CANCELLED` soon, also within a graph
 * that runs on the CPU, one that starts later ends at once. May be called from any thread and from callbacks. Cannot be
 * undone.
 */
struct diffbir_error *diffbir_cancel_trigger(const struct diffbir_cancel *cancel);

/**
 * Whether `diffbir_cancel_trigger` was called; false for NULL and freed handles.
 */
bool diffbir_cancel_is_triggered(const struct diffbir_cancel *cancel);

/**
 * Frees the handle; its requests are not affected. NULL and freed handles are ignored.
 */
void diffbir_cancel_free(struct diffbir_cancel *cancel);

/**
 * Creates an engine: reads the configuration, verifies the bundle's files and loads ONNX Runtime. Graphs are loaded
 * when a request first needs them, or now if `runtime.warm_up` is set. Never installs a runtime and never uses the
 * network: the first engine sets `ORT_DISABLE_TELEMETRY=1` in the environment, because ONNX Runtime would otherwise
 * send telemetry. Export that variable, or create the first engine before other threads start.
 *
 * On success `*out` is the engine, freed by `diffbir_engine_free`; on failure `*out` is unchanged. NULL for `options`
 * means the defaults: the bundle of `DIFFBIR_BUNDLE`, else that in the user's default folder.
 *
 * Errors: `CONFIG` and `OPTION` for the configuration, `BUNDLE`, `RUNTIME`, `RESOURCES`.
 */
struct diffbir_error *diffbir_engine_new(const struct diffbir_engine_options *options,
                                         struct diffbir_engine **out);

/**
 * Frees an engine. Stops its requests, as `diffbir_cancel_trigger` does, and returns when all submitted requests have
 * ended (in a callback: at once). Requests and images stay valid and are freed separately. NULL and freed handles are
 * ignored.
 */
void diffbir_engine_free(struct diffbir_engine *engine);

/**
 * Describes the bundle: a JSON object with `dir`, `sha256`, `family`, `weights`, `tasks`, `defaults` and `graphs`. The
 * caller frees `*json` with `diffbir_string_free`.
 */
struct diffbir_error *diffbir_engine_bundle(const struct diffbir_engine *engine,
                                            char **json);

/**
 * Describes the runtime: a JSON object with ONNX Runtime's `library`, its `origin` and `version`, the configured
 * `providers` in order, the optional ones that do not load (`passed_over`, each with `provider`, `reason`, `remedy`),
 * and the `devices` that ONNX Runtime offers. The caller frees `*json` with `diffbir_string_free`.
 */
struct diffbir_error *diffbir_engine_runtime(const struct diffbir_engine *engine,
                                             char **json);

/**
 * The effective configuration as JSON, with the keys of the YAML files; a request without options runs with it. The
 * caller frees `*json` with `diffbir_string_free`.
 */
struct diffbir_error *diffbir_engine_configuration(const struct diffbir_engine *engine,
                                                   char **json);

/**
 * The error's code; `DIFFBIR_CODE_OK` for NULL, `DIFFBIR_CODE_INVALID_ARGUMENT` for a freed handle.
 */
enum diffbir_code diffbir_error_code(const struct diffbir_error *error);

/**
 * The message, including the cause and the remedy, in UTF-8 on one line. Valid until the error is freed; NULL for NULL
 * and for a freed handle.
 */
const char *diffbir_error_message(const struct diffbir_error *error);

/**
 * The cause alone, such as the operating system's message. Valid until the error is freed; NULL if there is none.
 */
const char *diffbir_error_cause(const struct diffbir_error *error);

/**
 * For an error with `DIFFBIR_CODE_RESOURCES` because a picture does not fit the memory: the smallest sufficient memory
 * budget (`tiling.memory_budget`) in bytes. 0 for every other error, NULL and freed handles.
 */
uint64_t diffbir_error_smallest_budget(const struct diffbir_error *error);

/**
 * Frees an error. NULL and freed handles are ignored.
 */
void diffbir_error_free(struct diffbir_error *error);

/**
 * Width in pixels; 0 for NULL and freed handles.
 */
uint32_t diffbir_image_width(const struct diffbir_image *image);

/**
 * Height in pixels; 0 for NULL and freed handles.
 */
uint32_t diffbir_image_height(const struct diffbir_image *image);

/**
 * Whether the result has alpha: true if a pixel of the input was not opaque; false for NULL and freed handles.
 */
bool diffbir_image_has_alpha(const struct diffbir_image *image);

/**
 * The pixels without copying: 8-bit sRGB, interleaved RGB, rows contiguous, `3 * width * height` bytes. A 16-bit
 * result is rounded to 8 bits; `diffbir_image_copy` gives all 16. Valid until the image is freed; NULL for NULL and
 * freed handles.
 */
const uint8_t *diffbir_image_data(const struct diffbir_image *image);

/**
 * Copies the picture into the host's memory, in the type and layout that `pixels` describes; its width and height must
 * equal the image's. Alpha is opaque if the image has none.
 */
struct diffbir_error *diffbir_image_copy(const struct diffbir_image *image,
                                         const struct diffbir_pixels *pixels);

/**
 * Encodes the picture, with alpha, EXIF, XMP and colour profile of its input. `options` may be NULL. The caller frees
 * `*data` with `diffbir_bytes_free`.
 */
struct diffbir_error *diffbir_image_encode(const struct diffbir_image *image,
                                           const struct diffbir_encode_options *options,
                                           uint8_t **data,
                                           size_t *size);

/**
 * Writes the picture to a file atomically: to a temporary file in the same folder, then renamed. Missing folders are
 * created. `options` may be NULL.
 */
struct diffbir_error *diffbir_image_write(const struct diffbir_image *image,
                                          const char *path,
                                          const struct diffbir_encode_options *options);

/**
 * Frees an image. NULL and freed handles are ignored.
 */
void diffbir_image_free(struct diffbir_image *image);

/**
 * The library's ABI version. Compare it with `DIFFBIR_ABI_VERSION`, or call `DIFFBIR_ABI_CHECK()`.
 */
uint32_t diffbir_abi_version(void);

/**
 * Returns an error with `ABI` if the host was compiled against a newer header than this library's. `wanted` is the
 * header's `DIFFBIR_ABI_VERSION`. Call it as `DIFFBIR_ABI_CHECK()` before anything else.
 */
struct diffbir_error *diffbir_abi_check(uint32_t wanted);

/**
 * The library's version, such as `0.1.0`. Static.
 */
const char *diffbir_version(void);

/**
 * Build information: version, ABI, required ONNX Runtime, target. Static.
 */
const char *diffbir_build_info(void);

/**
 * Number of handles that have not been freed; 0 after a complete clean-up.
 */
size_t diffbir_live_handles(void);

/**
 * Creates a request for `engine`. Free it with `diffbir_request_free`.
 */
struct diffbir_error *diffbir_request_new(const struct diffbir_engine *engine, struct diffbir_request **out);

/**
 * Frees a request; a running one is stopped. Waits for a progress callback on another thread, so hold no lock that it
 * takes: when this returns, the callback does not run any more and its `free_fn` has been called. Within the callback
 * itself, `free_fn` is called when the callback returns. Images taken from the request stay valid. NULL and freed
 * handles are ignored.
 */
void diffbir_request_free(struct diffbir_request *request);

/**
 * Sets a file as the input, read when the request runs; the format is detected from its contents. A file `NAME.txt` in
 * the same folder is its caption, unless `input.captions` is false. `path` is copied.
 */
struct diffbir_error *diffbir_request_set_file(struct diffbir_request *request,
                                               const char *path);

/**
 * Sets the bytes of a picture file as the input. They are copied.
 */
struct diffbir_error *diffbir_request_set_bytes(struct diffbir_request *request,
                                                const uint8_t *data,
                                                size_t size);

/**
 * Sets pixels as the input. They are copied. The networks receive the colours only; the result has the input's alpha,
 * resized. Colours of fully transparent pixels are first filled in from their neighbours.
 */
struct diffbir_error *diffbir_request_set_pixels(struct diffbir_request *request,
                                                 const struct diffbir_pixels *pixels);

/**
 * Sets the options. NULL, as for a new request: the engine's configuration. Invalid options are refused here, before
 * any work.
 */
struct diffbir_error *diffbir_request_set_options(struct diffbir_request *request,
                                                  const struct diffbir_options *options);

/**
 * Sets the progress callback; NULL: none. `user_data` is passed to `progress` and freed by `free_fn`, which may be
 * NULL; see `diffbir_free_fn`.
 */
struct diffbir_error *diffbir_request_set_progress(struct diffbir_request *request,
                                                   diffbir_progress_fn progress,
                                                   void *user_data,
                                                   diffbir_free_fn free_fn);

/**
 * Sets the cancellation handle; NULL: none. The handle may be freed before the request.
 */
struct diffbir_error *diffbir_request_set_cancel(struct diffbir_request *request,
                                                 const struct diffbir_cancel *cancel);

/**
 * Restores the picture on the calling thread and returns when it is done. On success (NULL) the result can be taken. A
 * request may be run again, also with another input or other options.
 *
 * Errors: `INPUT` for the picture, `RUNTIME`, `RESOURCES`, `CANCELLED`; `INVALID_STATE` for a request that is running
 * or has no input.
 */
struct diffbir_error *diffbir_request_run(struct diffbir_request *request);

/**
 * Appends the request to the engine's queue and returns at once. Requests run in order on the engine's threads; one
 * that is stopped while waiting ends when its turn comes.
 *
 * Errors: `BUSY` if the queue is full; `INVALID_STATE` as for `diffbir_request_run`.
 */
struct diffbir_error *diffbir_request_submit(struct diffbir_request *request);

/**
 * Stops a running or waiting request, as `diffbir_cancel_trigger` does, without waiting for its end
 * (`diffbir_request_wait`). No effect on others. May be called from any thread.
 */
struct diffbir_error *diffbir_request_stop(const struct diffbir_request *request);

/**
 * Sets `*done` to 1 if a submitted request has ended, else to 0; `done` may be NULL. Returns the request's error if it
 * has failed, with `*done` 1. May be called from any thread.
 */
struct diffbir_error *diffbir_request_poll(const struct diffbir_request *request,
                                           bool *done);

/**
 * Waits until a submitted request has ended, at most `timeout_ms` milliseconds (`DIFFBIR_FOREVER`: without limit).
 * Sets `*done` to 1 if it has ended, else to 0; `done` may be NULL. Returns the request's error if it has failed, with
 * `*done` 1. May be called from any thread; in a progress callback it returns `INVALID_STATE`, unless the request has
 * ended or the timeout is 0.
 */
struct diffbir_error *diffbir_request_wait(const struct diffbir_request *request,
                                           uint32_t timeout_ms,
                                           bool *done);

/**
 * Number of samples of the result; 0 without a result.
 */
size_t diffbir_request_sample_count(const struct diffbir_request *request);

/**
 * Returns sample `sample`, from 0, of the result. Free it with `diffbir_image_free`; it may outlive request and
 * engine. A second call returns another handle of the same picture, without copying.
 */
struct diffbir_error *diffbir_request_image(const struct diffbir_request *request,
                                            size_t sample,
                                            struct diffbir_image **out);

/**
 * Provenance of the result as JSON: engine, bundle, provider and precision of each graph, every option. The caller
 * frees `*json` with `diffbir_string_free`.
 */
struct diffbir_error *diffbir_request_provenance(const struct diffbir_request *request,
                                                 char **json);

/**
 * Restores the picture in the file `input` and writes the first sample to `output`, in the format of its extension.
 * `options` may be NULL. An existing file is refused before any work, unless `output.existing` is `overwrite`. For
 * progress, cancelling or several samples, use a request.
 *
 * Errors: as `diffbir_request_set_options` and `diffbir_request_run`; `INPUT` where the result cannot be written.
 */
struct diffbir_error *diffbir_restore_file(const struct diffbir_engine *engine,
                                           const char *input,
                                           const char *output,
                                           const struct diffbir_options *options);

/**
 * Frees a string returned by the library. NULL is ignored.
 */
void diffbir_string_free(char *string);

/**
 * Frees bytes returned by the library; `size` is the size returned with them. NULL is ignored.
 */
void diffbir_bytes_free(uint8_t *data, size_t size);

/**
 * Fills `options` with the defaults. Call it as `DIFFBIR_INIT(diffbir_engine_options, &options)`.
 */
void diffbir_engine_options_init(struct diffbir_engine_options *options, size_t struct_size);

/**
 * Marks every field of `options` as unset. Call it as `DIFFBIR_INIT(diffbir_options, &options)`.
 */
void diffbir_options_init(struct diffbir_options *options, size_t struct_size);

/**
 * Fills `pixels` with the defaults. Call it as `DIFFBIR_INIT(diffbir_pixels, &pixels)`.
 */
void diffbir_pixels_init(struct diffbir_pixels *pixels, size_t struct_size);

/**
 * Fills `options` with the defaults. Call it as `DIFFBIR_INIT(diffbir_encode_options, &options)`.
 */
void diffbir_encode_options_init(struct diffbir_encode_options *options, size_t struct_size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DIFFBIR_H */
