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
 * The version of the ABI. It grows when something is appended; nothing is ever taken away or changed.
 */
#define DIFFBIR_ABI_VERSION 1

/**
 * A timeout that never ends.
 */
#define DIFFBIR_FOREVER UINT32_MAX

/**
 * Who can mend an error. Codes are never given a second meaning; one that is retired stays here as a comment.
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
   * Somebody asked to stop.
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
   * A defect of the library: it panicked. The engine may go on being used.
   */
  DIFFBIR_CODE_PANIC = 13,
  /**
   * A picture's values became infinite or NaN on the way: an option far out of range, or a graph that overflows.
   */
  DIFFBIR_CODE_NOT_FINITE = 14,
} diffbir_code;

/**
 * How much a log message matters.
 */
typedef enum diffbir_log_level {
  /**
   * What happens.
   */
  DIFFBIR_LOG_LEVEL_INFO = 1,
  /**
   * Something was skipped that the host may care about.
   */
  DIFFBIR_LOG_LEVEL_WARNING = 2,
} diffbir_log_level;

/**
 * What a progress callback reports.
 */
typedef enum diffbir_event {
  /**
   * A stage begins: its graph is loaded now, if it is not loaded yet, then run.
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
   * 16 bits, 0 to 65535, in the machine's byte order. All of them count; results then have 16 bits as well, unless
   * `output.depth` says otherwise.
   */
  DIFFBIR_TYPE_U16 = 2,
  /**
   * 32-bit float, 0 to 1. Rounded to 16 bits, and as those; values outside are clipped, NaN is 0.
   */
  DIFFBIR_TYPE_F32 = 3,
} diffbir_type;

/**
 * Which channels a pixel has, in this order.
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
   * Red, green, blue, and how opaque it is (not premultiplied).
   */
  DIFFBIR_CHANNELS_RGBA = 3,
  /**
   * Blue, green, red, and how opaque it is (not premultiplied).
   */
  DIFFBIR_CHANNELS_BGRA = 4,
  /**
   * One channel. From a colour picture: Rec. 601 luma.
   */
  DIFFBIR_CHANNELS_GREY = 5,
} diffbir_channels;

/**
 * How values lie in memory.
 */
typedef enum diffbir_layout {
  /**
   * A pixel's channels stand together.
   */
  DIFFBIR_LAYOUT_HWC = 1,
  /**
   * One plane for each channel.
   */
  DIFFBIR_LAYOUT_CHW = 2,
} diffbir_layout;

/**
 * A way to stop requests from any thread. Thread-safe.
 */
typedef struct diffbir_cancel diffbir_cancel;

/**
 * An engine: a bundle, ready to restore pictures. Thread-safe: threads may share one. Networks run one request at a
 * time; others wait for their turn.
 */
typedef struct diffbir_engine diffbir_engine;

/**
 * What went wrong; NULL stands for success. Thread-safe: it never changes.
 */
typedef struct diffbir_error diffbir_error;

/**
 * A result, owned by the library. Thread-safe: it never changes.
 */
typedef struct diffbir_image diffbir_image;

/**
 * One piece of work for an engine: an input, options, and in the end a result. For one thread at a time, except that
 * any thread may stop and free it and that `diffbir_request_poll` and `diffbir_request_wait` may be called from any
 * thread.
 */
typedef struct diffbir_request diffbir_request;

/**
 * Receives log messages; `level` is a `diffbir_log_level`. `message` is valid during the call. Comes from any thread,
 * also from several at once, and must not call this library.
 */
typedef void (*diffbir_log_fn)(uint32_t level, const char *message, void *user_data);

/**
 * Frees `user_data`. The library calls it exactly once, as soon as it does not need `user_data` any more: when the
 * function that goes with it is replaced or its object freed, and at once where that function is NULL or the call that
 * passes it fails. Comes from any thread, but never while the function runs. May free handles; must not throw or
 * `longjmp`. NULL: `user_data` stays the host's.
 */
typedef void (*diffbir_free_fn)(void *user_data);

/**
 * What an engine is made of. Fill it with `diffbir_engine_options_init` first. Strings are copied during the call.
 */
typedef struct diffbir_engine_options {
  /**
   * The size of this structure in the host's header; `_init` sets it.
   */
  size_t struct_size;
  /**
   * A YAML file; see `configs/`. Relative paths in it are taken from its folder. NULL: none.
   */
  const char *config_file;
  /**
   * YAML text that goes over the file; relative paths are taken from the working folder. NULL: none.
   */
  const char *config_yaml;
  /**
   * The bundle's folder, in UTF-8; goes over what the configuration names. NULL: the configuration's.
   */
  const char *bundle;
  /**
   * `setting_count` strings `key=value` that go over file and text, such as `runtime.providers=[cuda, cpu]`.
   */
  const char *const *settings;
  /**
   * How many.
   */
  size_t setting_count;
  /**
   * The path of libonnxruntime, in UTF-8; NULL: the configuration's, else it is looked for.
   */
  const char *runtime_library;
  /**
   * Not 0: read every file of the bundle and compare its hash, also those that were found sound before.
   */
  uint32_t verify;
  /**
   * How many submitted requests may wait; 0: 64. One more is refused with `DIFFBIR_CODE_BUSY`.
   */
  uint32_t queue_limit;
  /**
   * Receives log messages; NULL: none are made.
   */
  diffbir_log_fn log;
  /**
   * Passed to `log`.
   */
  void *log_data;
  /**
   * Frees `log_data` once the engine is freed and `log` does not run any more, and where `diffbir_engine_new` fails,
   * unless it refuses this structure itself (`struct_size`, an unknown field). NULL: `log_data` stays the host's.
   */
  diffbir_free_fn log_free;
} diffbir_engine_options;

/**
 * The host's pixels, in sRGB. Fill it with `diffbir_pixels_init` first. The memory stays the host's.
 */
typedef struct diffbir_pixels {
  /**
   * The size of this structure in the host's header; `_init` sets it.
   */
  size_t struct_size;
  /**
   * The first value.
   */
  void *data;
  /**
   * Bytes from `data` on that belong to the picture; nothing beyond is touched.
   */
  size_t size;
  /**
   * Pixels in a row, at least 1.
   */
  uint32_t width;
  /**
   * Rows, at least 1.
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
   * Bytes from one row to the next; 0: rows stand close together.
   */
  size_t row_stride;
  /**
   * Bytes from one plane to the next with CHW; 0: planes stand close together.
   */
  size_t plane_stride;
} diffbir_pixels;

/**
 * How a result is encoded. Fill it with `diffbir_encode_options_init` first.
 */
typedef struct diffbir_encode_options {
  /**
   * The size of this structure in the host's header; `_init` sets it.
   */
  size_t struct_size;
  /**
   * `png`, `jpeg`, `webp`, `tiff` or `bmp`. NULL: what the file's name says, else `png`.
   */
  const char *format;
  /**
   * Quality of JPEG, 1 to 100. 0: the configuration's.
   */
  uint32_t quality;
  /**
   * 0: no text chunk in a PNG. Default: 1, how the picture was made is written into it.
   */
  uint32_t metadata;
  /**
   * Not 0: an existing file is replaced. Default: 0, it is refused.
   */
  uint32_t overwrite;
  /**
   * 0.
   */
  uint32_t reserved;
} diffbir_encode_options;

/**
 * How a picture is restored. Fill it with `diffbir_options_init` first: every field then says "as the engine's
 * configuration and bundle say". Strings are copied during the call.
 */
typedef struct diffbir_options {
  /**
   * The size of this structure in the host's header; `_init` sets it.
   */
  size_t struct_size;
  /**
   * `sr`, `face` (aligned) or `denoise`. NULL: unset.
   */
  const char *task;
  /**
   * The sampler, by its name in README. NULL: unset.
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
   * Scale of classifier-free guidance, 1 for none. NaN: unset.
   */
  double cfg_scale;
  /**
   * Weight of the control module, 0 to 1 and beyond. NaN: unset.
   */
  double strength;
  /**
   * Scale of restoration guidance towards stage 1, 0 for none. NaN: unset.
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
   * How many samples to make. 0: unset.
   */
  uint32_t samples;
  /**
   * `setting_count` strings `key=value` that go over the fields above: any key of the sections `restore`,
   * `sampling`, `guidance`, `tiling`, `input` and `output`, such as `tiling.cldm=512:256`.
   */
  const char *const *settings;
  /**
   * How many.
   */
  size_t setting_count;
} diffbir_options;

/**
 * Where a request stands. A newer library may append fields: look at `struct_size` before reading one that this
 * header does not have.
 */
typedef struct diffbir_progress {
  /**
   * The size of this structure in the library.
   */
  size_t struct_size;
  /**
   * A `diffbir_event`; ignore those you do not know.
   */
  uint32_t event;
  /**
   * The sampling step that is done, from 1; 0 where the event is none.
   */
  uint32_t step;
  /**
   * How many there are; 0 where the event is no step.
   */
  uint32_t total;
  /**
   * The tile that begins, from 1; 0 where the event is none.
   */
  uint32_t tile;
  /**
   * How many there are; 0 where the event is no tile.
   */
  uint32_t tiles;
  /**
   * The first of the samples in work, from 0.
   */
  uint32_t first_sample;
  /**
   * How many are in work at once; 0 where the event is no step.
   */
  uint32_t sample_count;
  /**
   * `text_encoder`, `cleaner`, `vae_encoder`, `sampling`, `vae_decoder` or `finish`. Valid during the call.
   */
  const char *stage;
  /**
   * Since the stage began; 0 where it has not ended.
   */
  double seconds;
} diffbir_progress;

/**
 * Receives a request's progress, on the thread that runs it. Returns 0 to stop the request, anything else to go on.
 * `progress` is valid during the call. Must not throw or `longjmp`. May call the library, but not run a request or wait
 * for one: that is refused with `INVALID_STATE`.
 */
typedef int (*diffbir_progress_fn)(const struct diffbir_progress *progress, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a handle to stop requests with. Give it to as many requests as you like with `diffbir_request_set_cancel`;
 * free it with `diffbir_cancel_free`, also while they run.
 */
struct diffbir_error *diffbir_cancel_new(struct diffbir_cancel **out);

/**
 * Asks every request that was given `cancel` to stop: one that runs ends with `DIFFBIR_CODE_CANCELLED` after the
 * sampling step or the graph that is running, one that starts later ends at once. From any thread, also from a
 * callback. There is no way back.
 */
struct diffbir_error *diffbir_cancel_trigger(const struct diffbir_cancel *cancel);

/**
 * Whether somebody asked to stop; false for NULL and freed handles.
 */
bool diffbir_cancel_is_triggered(const struct diffbir_cancel *cancel);

/**
 * Frees the handle; requests that were given it stay as they are. NULL and freed handles are ignored.
 */
void diffbir_cancel_free(struct diffbir_cancel *cancel);

/**
 * Makes an engine: reads the configuration, checks the bundle's files and loads ONNX Runtime. Graphs are loaded when
 * a request first needs them, unless `runtime.warm_up` asks for a first picture now. Never installs a runtime and never
 * uses the network: the first engine sets `ORT_DISABLE_TELEMETRY=1` in the environment, because ONNX Runtime reports to
 * its vendor otherwise. Export that variable, or make the first engine before other threads start.
 *
 * On success `*out` is the engine, freed by `diffbir_engine_free`; on failure `*out` stays as it was. NULL for
 * `options` means the defaults, which name no bundle and so fail.
 *
 * Errors: `CONFIG` and `OPTION` for the configuration, `BUNDLE`, `RUNTIME`, `RESOURCES`.
 */
struct diffbir_error *diffbir_engine_new(const struct diffbir_engine_options *options,
                                         struct diffbir_engine **out);

/**
 * Frees an engine: its requests are stopped, as with `diffbir_cancel_trigger`, and the call returns when none of its
 * submitted requests runs any more (in a callback: at once). Requests and images stay and are freed on their own.
 * NULL and freed handles are ignored.
 */
void diffbir_engine_free(struct diffbir_engine *engine);

/**
 * What the bundle is: a JSON object with `dir`, `sha256`, `family`, `weights`, `tasks`, `defaults` and `graphs`. The
 * caller frees `*json` with `diffbir_string_free`.
 */
struct diffbir_error *diffbir_engine_bundle(const struct diffbir_engine *engine,
                                            char **json);

/**
 * What pictures run on: a JSON object with ONNX Runtime's `library`, its `origin` and `version`, the configured
 * `providers` in order, the optional ones among them that are `passed_over` because they do not load (`provider`,
 * `reason`, `remedy`), and the `devices` that ONNX Runtime offers. The caller frees `*json` with `diffbir_string_free`.
 */
struct diffbir_error *diffbir_engine_runtime(const struct diffbir_engine *engine,
                                             char **json);

/**
 * The effective configuration, as JSON with the keys of the YAML files: what a request gets whose options are all
 * unset. The caller frees `*json` with `diffbir_string_free`.
 */
struct diffbir_error *diffbir_engine_configuration(const struct diffbir_engine *engine,
                                                   char **json);

/**
 * The error's code; `DIFFBIR_CODE_OK` for NULL, `DIFFBIR_CODE_INVALID_ARGUMENT` for a freed handle.
 */
enum diffbir_code diffbir_error_code(const struct diffbir_error *error);

/**
 * What went wrong, where, and what to do, in UTF-8 on one line, the cause included. Valid until the error is freed;
 * NULL for NULL and for a freed handle.
 */
const char *diffbir_error_message(const struct diffbir_error *error);

/**
 * The cause alone, such as the operating system's message. Valid until the error is freed; NULL where there is none.
 */
const char *diffbir_error_cause(const struct diffbir_error *error);

/**
 * The smallest memory budget (`tiling.memory_budget`) that would do, in bytes, for an error with
 * `DIFFBIR_CODE_RESOURCES` of a picture that does not fit the memory; 0 for every other error, NULL and freed handles.
 */
uint64_t diffbir_error_smallest_budget(const struct diffbir_error *error);

/**
 * Frees an error. NULL and freed handles are ignored.
 */
void diffbir_error_free(struct diffbir_error *error);

/**
 * Pixels in a row; 0 for NULL and freed handles.
 */
uint32_t diffbir_image_width(const struct diffbir_image *image);

/**
 * Rows; 0 for NULL and freed handles.
 */
uint32_t diffbir_image_height(const struct diffbir_image *image);

/**
 * Whether the input was transparent somewhere, and so the result is; false for NULL and freed handles.
 */
bool diffbir_image_has_alpha(const struct diffbir_image *image);

/**
 * The colours without copying: sRGB, 8 bits (of a result of 16 the nearest ones, which `diffbir_image_copy` gives in
 * full), red, green, blue, rows close together, `3 * width * height` bytes. Valid until the image is freed; NULL for NULL and freed handles.
 */
const uint8_t *diffbir_image_data(const struct diffbir_image *image);

/**
 * Copies the picture into the host's memory, in the form that `pixels` describes. Its width and height have to be the
 * image's. Without transparency, alpha is full.
 */
struct diffbir_error *diffbir_image_copy(const struct diffbir_image *image,
                                         const struct diffbir_pixels *pixels);

/**
 * Encodes the picture with what its input had besides colours: alpha, EXIF, XMP, colour profile. `options` may be
 * NULL. The caller frees `*data` with `diffbir_bytes_free`.
 */
struct diffbir_error *diffbir_image_encode(const struct diffbir_image *image,
                                           const struct diffbir_encode_options *options,
                                           uint8_t **data,
                                           size_t *size);

/**
 * Writes the picture to a file, whole or not at all: to a temporary file beside it, then renamed. Missing folders are
 * made. `options` may be NULL.
 */
struct diffbir_error *diffbir_image_write(const struct diffbir_image *image,
                                          const char *path,
                                          const struct diffbir_encode_options *options);

/**
 * Frees an image. NULL and freed handles are passed over.
 */
void diffbir_image_free(struct diffbir_image *image);

/**
 * The library's ABI version. Compare it with `DIFFBIR_ABI_VERSION`, or call `DIFFBIR_ABI_CHECK()`.
 */
uint32_t diffbir_abi_version(void);

/**
 * Refuses, with `ABI`, a host that was compiled against a newer header than this library's. `wanted` is the header's
 * `DIFFBIR_ABI_VERSION`. Call it as `DIFFBIR_ABI_CHECK()` before anything else.
 */
struct diffbir_error *diffbir_abi_check(uint32_t wanted);

/**
 * The library's version, such as `0.1.0`. Static.
 */
const char *diffbir_version(void);

/**
 * How the library was built: version, ABI, the ONNX Runtime it wants, and target. Static.
 */
const char *diffbir_build_info(void);

/**
 * How many handles have not been freed: 0 when a host has cleaned up.
 */
size_t diffbir_live_handles(void);

/**
 * Makes a request for `engine`. Free it with `diffbir_request_free`.
 */
struct diffbir_error *diffbir_request_new(const struct diffbir_engine *engine, struct diffbir_request **out);

/**
 * Frees a request; one that is at work is stopped and ends by itself. When the call returns, the progress function does
 * not run and is not called any more, and its `free_fn` has been called: a call of it on another thread is waited for,
 * so hold no lock that it takes. In that function itself, `free_fn` is called when it returns. Images that were taken
 * from the request stay. NULL and freed handles are ignored.
 */
void diffbir_request_free(struct diffbir_request *request);

/**
 * Takes the picture from a file, which is read when the request runs: PNG, JPEG, WebP, TIFF or BMP, as its contents
 * say. A file `NAME.txt` beside it is its caption, unless `input.captions` is false. `path` is copied.
 */
struct diffbir_error *diffbir_request_set_file(struct diffbir_request *request,
                                               const char *path);

/**
 * Takes the picture from the bytes of a file. They are copied.
 */
struct diffbir_error *diffbir_request_set_bytes(struct diffbir_request *request,
                                                const uint8_t *data,
                                                size_t size);

/**
 * Takes the picture from pixels. They are copied, and alpha is set aside: the networks see colours alone, and the
 * result has the alpha again, enlarged. Colours where nothing is seen are filled in from their neighbours before.
 */
struct diffbir_error *diffbir_request_set_pixels(struct diffbir_request *request,
                                                 const struct diffbir_pixels *pixels);

/**
 * Says how to restore. NULL: as the engine's configuration says, which is also what a new request does. What is not
 * accepted is refused here, before any work.
 */
struct diffbir_error *diffbir_request_set_options(struct diffbir_request *request,
                                                  const struct diffbir_options *options);

/**
 * Sets the function that receives progress; NULL: none. `user_data` is passed to `progress` and freed by `free_fn`, which
 * may be NULL; see `diffbir_free_fn`.
 */
struct diffbir_error *diffbir_request_set_progress(struct diffbir_request *request,
                                                   diffbir_progress_fn progress,
                                                   void *user_data,
                                                   diffbir_free_fn free_fn);

/**
 * Lets `cancel` stop the request; NULL: nothing does. The handle may be freed before the request.
 */
struct diffbir_error *diffbir_request_set_cancel(struct diffbir_request *request,
                                                 const struct diffbir_cancel *cancel);

/**
 * Restores the picture on this thread and returns when it is done. NULL: the result can be taken. A request may be
 * run again, with another input or other options too.
 *
 * Errors: `INPUT` for the picture, `RUNTIME`, `RESOURCES`, `CANCELLED`; `INVALID_STATE` for a request that is at
 * work or has no input.
 */
struct diffbir_error *diffbir_request_run(struct diffbir_request *request);

/**
 * Puts the request into the engine's queue and returns at once. The engine's thread runs it when its turn comes; one
 * that is stopped while it waits ends when its turn comes.
 *
 * Errors: `BUSY` where the queue is full; `INVALID_STATE`.
 */
struct diffbir_error *diffbir_request_submit(struct diffbir_request *request);

/**
 * Asks a request that is at work to stop, as `diffbir_cancel_trigger` does; wait for it to know that it has. One
 * that is not at work stays as it is. From any thread.
 */
struct diffbir_error *diffbir_request_stop(const struct diffbir_request *request);

/**
 * Whether a submitted request is done: `*done` becomes 1 or 0; `done` may be NULL. Returns the request's own error
 * once it has failed, with `*done` 1. From any thread.
 */
struct diffbir_error *diffbir_request_poll(const struct diffbir_request *request,
                                           bool *done);

/**
 * Waits until a submitted request is done, `timeout_ms` milliseconds at most, `DIFFBIR_FOREVER` for as long as it
 * takes. `*done` becomes 1 or 0; `done` may be NULL. Returns the request's own error once it has failed, with
 * `*done` 1. From any thread; `INVALID_STATE` in a progress function, unless the request is done or the timeout 0.
 */
struct diffbir_error *diffbir_request_wait(const struct diffbir_request *request,
                                           uint32_t timeout_ms,
                                           bool *done);

/**
 * How many samples the result has; 0 where there is no result.
 */
size_t diffbir_request_sample_count(const struct diffbir_request *request);

/**
 * Takes sample `sample`, from 0, of the result. Free it with `diffbir_image_free`; it may outlive request and engine.
 * Asked twice, it gives two handles of the same picture, which is not copied.
 */
struct diffbir_error *diffbir_request_image(const struct diffbir_request *request,
                                            size_t sample,
                                            struct diffbir_image **out);

/**
 * How the result was made, as JSON: engine, bundle, provider and precision of each graph, every option. The caller
 * frees `*json` with `diffbir_string_free`.
 */
struct diffbir_error *diffbir_request_provenance(const struct diffbir_request *request,
                                                 char **json);

/**
 * Restores the picture in the file `input` and writes the result's first sample to `output`, whose name says what kind
 * of file it is. `options` may be NULL. An existing file is refused before any work, unless `output.existing` is
 * `overwrite`. For progress, cancelling or several samples, use a request.
 *
 * Errors: as `diffbir_request_set_options` and `diffbir_request_run`; `INPUT` where the result cannot be written.
 */
struct diffbir_error *diffbir_restore_file(const struct diffbir_engine *engine,
                                           const char *input,
                                           const char *output,
                                           const struct diffbir_options *options);

/**
 * Frees a string that the library gave away. NULL is ignored.
 */
void diffbir_string_free(char *string);

/**
 * Frees bytes that the library gave away, with the size that came with them. NULL is ignored.
 */
void diffbir_bytes_free(uint8_t *data, size_t size);

/**
 * Fills `options` with the defaults. Call it as `DIFFBIR_INIT(diffbir_engine_options, &options)`.
 */
void diffbir_engine_options_init(struct diffbir_engine_options *options, size_t struct_size);

/**
 * Fills `options` with "unset" everywhere. Call it as `DIFFBIR_INIT(diffbir_options, &options)`.
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
