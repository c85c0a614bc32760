/// diffbir for C++17: RAII over diffbir.h, header-only. diffbir.h says what each call does; this file says what the
/// wrapper adds.
///
/// Ownership: `engine`, `request`, `image` and `cancel` own one handle each. They are moved, not copied; a moved-from
/// object may only be assigned to or destroyed, and every call on one throws. Arguments are copied during the call:
/// nothing of the host's has to outlive it. Images and requests may outlive their engine; destroy the engine last all
/// the same, because its destructor waits until none of its submitted requests runs any more.
///
/// Errors: what fails throws `diffbir::error` (or `std::bad_alloc`).
///
/// Threads: each class says what threads may do with one object at once. As everywhere in C++, moving, assigning and
/// destroying an object is for one thread alone, while no other call on that object runs.

#ifndef DIFFBIR_HPP
#define DIFFBIR_HPP

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "diffbir.h"

namespace diffbir {

/// Who can mend an error; the meanings are in diffbir.h. A newer library may use numbers that have no name here.
enum class error_code : std::uint32_t {
  input = DIFFBIR_CODE_INPUT,
  option = DIFFBIR_CODE_OPTION,
  config = DIFFBIR_CODE_CONFIG,
  bundle = DIFFBIR_CODE_BUNDLE,
  runtime = DIFFBIR_CODE_RUNTIME,
  resources = DIFFBIR_CODE_RESOURCES,
  cancelled = DIFFBIR_CODE_CANCELLED,
  internal = DIFFBIR_CODE_INTERNAL,
  invalid_argument = DIFFBIR_CODE_INVALID_ARGUMENT,
  invalid_state = DIFFBIR_CODE_INVALID_STATE,
  abi = DIFFBIR_CODE_ABI,
  busy = DIFFBIR_CODE_BUSY,
  panic = DIFFBIR_CODE_PANIC,
  not_finite = DIFFBIR_CODE_NOT_FINITE,
};

/// What went wrong. `what()` says it on one line, in UTF-8, the cause included.
class error : public std::runtime_error {
 public:
  error(error_code code, const std::string& message, std::optional<std::string> cause = std::nullopt)
      : std::runtime_error(message),
        code_(code),
        cause_(cause ? std::make_shared<const std::string>(std::move(*cause)) : nullptr) {}

  error_code code() const noexcept { return code_; }

  /// The cause alone, such as the operating system's message; NULL where there is none. Lives as long as the error.
  const char* cause() const noexcept { return cause_ ? cause_->c_str() : nullptr; }

 private:
  error_code code_;
  // Shared, because copying an exception must not throw.
  std::shared_ptr<const std::string> cause_;
};

/// How much a log message matters.
enum class log_level : std::uint32_t {
  info = DIFFBIR_LOG_LEVEL_INFO,
  warning = DIFFBIR_LOG_LEVEL_WARNING,
};

/// What a progress callback reports. A newer library may report more: ignore what you do not know.
enum class event : std::uint32_t {
  stage_started = DIFFBIR_EVENT_STAGE_STARTED,
  step = DIFFBIR_EVENT_STEP,
  tile = DIFFBIR_EVENT_TILE,
  stage_finished = DIFFBIR_EVENT_STAGE_FINISHED,
};

/// Where a request stands; `diffbir_progress` says what the fields mean. `stage` is valid during the callback.
struct progress {
  event kind{};
  std::string_view stage{};
  std::uint32_t step = 0;
  std::uint32_t total = 0;
  std::uint32_t tile = 0;
  std::uint32_t tiles = 0;
  std::uint32_t first_sample = 0;
  std::uint32_t sample_count = 0;
  double seconds = 0;
};

/// Receives a request's progress, on the thread that runs it; true: go on, false: stop. May throw: that stops the
/// request too, and `run`, `poll` and `wait` throw the same exception again. Can neither run a request nor wait for one.
using progress_function = std::function<bool(const progress&)>;

/// Receives log messages, from any thread, also from several at once. Must not call the library. What it throws is
/// dropped.
using log_function = std::function<void(log_level, std::string_view message)>;

/// What an engine is made of; what is unset is as `diffbir_engine_options` says. Set fields, or chain `with_`.
struct engine_options {
  std::optional<std::string> config_file{};
  std::optional<std::string> config_yaml{};
  std::optional<std::string> bundle{};
  std::optional<std::string> runtime_library{};
  /// `key=value`, over file and text; `bundle` and `runtime_library` go over them.
  std::vector<std::string> settings{};
  bool verify = false;
  std::uint32_t queue_limit = 0;
  log_function log{};

  engine_options& with_config_file(std::string value) {
    config_file = std::move(value);
    return *this;
  }
  engine_options& with_config_yaml(std::string value) {
    config_yaml = std::move(value);
    return *this;
  }
  engine_options& with_bundle(std::string value) {
    bundle = std::move(value);
    return *this;
  }
  engine_options& with_runtime_library(std::string value) {
    runtime_library = std::move(value);
    return *this;
  }
  /// Adds a setting.
  engine_options& with_setting(std::string value) {
    settings.push_back(std::move(value));
    return *this;
  }
  engine_options& with_verify(bool value) {
    verify = value;
    return *this;
  }
  engine_options& with_queue_limit(std::uint32_t value) {
    queue_limit = value;
    return *this;
  }
  engine_options& with_log(log_function value) {
    log = std::move(value);
    return *this;
  }
};

/// How a picture is restored; what is unset is as the engine's configuration and bundle say. Set fields, or chain
/// `with_`.
struct options {
  std::optional<std::string> task{};
  std::optional<std::string> sampler{};
  std::optional<std::string> prompt{};
  std::optional<std::string> negative_prompt{};
  std::optional<double> upscale{};
  std::optional<double> cfg_scale{};
  std::optional<double> strength{};
  std::optional<double> guidance_scale{};
  std::optional<std::int64_t> seed{};
  std::optional<std::uint32_t> steps{};
  std::optional<std::uint32_t> samples{};
  /// `key=value`, over all of the above.
  std::vector<std::string> settings{};

  options& with_task(std::string value) {
    task = std::move(value);
    return *this;
  }
  options& with_sampler(std::string value) {
    sampler = std::move(value);
    return *this;
  }
  options& with_prompt(std::string value) {
    prompt = std::move(value);
    return *this;
  }
  options& with_negative_prompt(std::string value) {
    negative_prompt = std::move(value);
    return *this;
  }
  options& with_upscale(double value) {
    upscale = value;
    return *this;
  }
  options& with_cfg_scale(double value) {
    cfg_scale = value;
    return *this;
  }
  options& with_strength(double value) {
    strength = value;
    return *this;
  }
  options& with_guidance_scale(double value) {
    guidance_scale = value;
    return *this;
  }
  options& with_seed(std::int64_t value) {
    seed = value;
    return *this;
  }
  options& with_steps(std::uint32_t value) {
    steps = value;
    return *this;
  }
  options& with_samples(std::uint32_t value) {
    samples = value;
    return *this;
  }
  /// Adds a setting.
  options& with_setting(std::string value) {
    settings.push_back(std::move(value));
    return *this;
  }
};

/// How a result is encoded. Set fields, or chain `with_`.
struct encode_options {
  /// `png`, `jpeg`, `webp`, `tiff` or `bmp`; unset: what the file's name says, else `png`.
  std::optional<std::string> format{};
  /// Quality of JPEG, 1 to 100; unset: the configuration's.
  std::optional<std::uint32_t> quality{};
  /// Whether a PNG records how it was made.
  bool metadata = true;
  /// Whether an existing file is replaced; else it is refused.
  bool overwrite = false;

  encode_options& with_format(std::string value) {
    format = std::move(value);
    return *this;
  }
  encode_options& with_quality(std::uint32_t value) {
    quality = value;
    return *this;
  }
  encode_options& with_metadata(bool value) {
    metadata = value;
    return *this;
  }
  encode_options& with_overwrite(bool value) {
    overwrite = value;
    return *this;
  }
};

/// Which channels a pixel has, in this order.
enum class channels : std::uint32_t {
  rgb = DIFFBIR_CHANNELS_RGB,
  bgr = DIFFBIR_CHANNELS_BGR,
  rgba = DIFFBIR_CHANNELS_RGBA,
  bgra = DIFFBIR_CHANNELS_BGRA,
  grey = DIFFBIR_CHANNELS_GREY,
};

/// How values lie in memory: `hwc`, a pixel's channels together; `chw`, one plane for each channel.
enum class layout : std::uint32_t {
  hwc = DIFFBIR_LAYOUT_HWC,
  chw = DIFFBIR_LAYOUT_CHW,
};

/// How the values of a picture stand.
struct form {
  channels order = channels::rgb;
  layout arrangement = layout::hwc;
  /// Bytes from one row to the next; 0: rows stand close together.
  std::size_t row_stride = 0;
  /// Bytes from one plane to the next with `layout::chw`; 0: planes stand close together.
  std::size_t plane_stride = 0;
};

namespace detail {

template <typename T, void (*Free)(T*)>
struct freeing {
  void operator()(T* handle) const noexcept { Free(handle); }
};

template <typename T, void (*Free)(T*)>
using handle = std::unique_ptr<T, freeing<T, Free>>;

using error_handle = handle<diffbir_error, diffbir_error_free>;
using string_handle = handle<char, diffbir_string_free>;

/// `raw` as an exception; frees it.
inline error taken(diffbir_error* raw) {
  const error_handle owned(raw);
  const char* const message = diffbir_error_message(raw);
  const char* const cause = diffbir_error_cause(raw);
  return error(static_cast<error_code>(diffbir_error_code(raw)), message ? message : "",
               cause ? std::optional<std::string>(cause) : std::nullopt);
}

/// Throws what a call returned, unless that is success.
inline void check(diffbir_error* raw) {
  if (raw) throw taken(raw);
}

/// A string for C. One with a NUL in it would arrive cut short, so it is refused.
inline const char* text(const std::string& string) {
  if (string.find('\0') != std::string::npos) {
    throw error(error_code::invalid_argument, "a string contains a NUL: " + std::string(string.c_str()));
  }
  return string.c_str();
}

inline const char* text(const std::optional<std::string>& string) {
  return string ? text(*string) : nullptr;
}

inline std::vector<const char*> texts(const std::vector<std::string>& strings) {
  std::vector<const char*> pointers;
  pointers.reserve(strings.size());
  for (const std::string& string : strings) pointers.push_back(text(string));
  return pointers;
}

/// Sets a field of a C structure. The value that stands for "unset" there is refused: it would be ignored.
template <typename T>
void put(T& field, const std::optional<T>& value, bool means_unset, const char* key) {
  if (!value) return;
  if (means_unset) throw error(error_code::option, std::string(key) + " is " + std::to_string(*value));
  field = *value;
}

/// `options` for C. Points into `options`.
struct c_options {
  diffbir_options c{};
  std::vector<const char*> settings;

  explicit c_options(const options& from) : settings(texts(from.settings)) {
    DIFFBIR_INIT(diffbir_options, &c);
    c.task = text(from.task);
    c.sampler = text(from.sampler);
    c.prompt = text(from.prompt);
    c.negative_prompt = text(from.negative_prompt);
    number(c.upscale, from.upscale, "restore.upscale");
    number(c.cfg_scale, from.cfg_scale, "sampling.cfg_scale");
    number(c.strength, from.strength, "sampling.strength");
    number(c.guidance_scale, from.guidance_scale, "guidance.scale");
    put(c.seed, from.seed, from.seed == -1, "sampling.seed");
    put(c.steps, from.steps, from.steps == 0U, "sampling.steps");
    put(c.samples, from.samples, from.samples == 0U, "sampling.samples");
    c.settings = settings.data();
    c.setting_count = settings.size();
  }

 private:
  static void number(double& field, const std::optional<double>& value, const char* key) {
    put(field, value, value && std::isnan(*value), key);
  }
};

/// `encode_options` for C. Points into `from`.
inline diffbir_encode_options c_encode_options(const encode_options& from) {
  diffbir_encode_options c{};
  DIFFBIR_INIT(diffbir_encode_options, &c);
  c.format = text(from.format);
  put(c.quality, from.quality, from.quality == 0U, "quality");
  c.metadata = from.metadata ? 1 : 0;
  c.overwrite = from.overwrite ? 1 : 0;
  return c;
}

/// The string that `call` gives through the pointer that it is called with.
template <typename Call>
std::string string_from(const Call& call) {
  char* raw = nullptr;
  check(call(&raw));
  const string_handle owned(raw);
  return std::string(raw);
}

/// A request's callback and what it threw. The library owns it together with the request.
class listener {
 public:
  explicit listener(progress_function function) : function_(std::move(function)) {}

  /// Calls the function; whether to go on. An exception must not pass through the library, so it waits in `thrown`.
  bool report(const progress& now) noexcept {
    try {
      return function_(now);
    } catch (...) {
      put(std::current_exception());
      return false;
    }
  }

  std::exception_ptr thrown() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return thrown_;
  }

  void put(std::exception_ptr thrown) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    thrown_.swap(thrown);
  }

 private:
  progress_function function_;
  mutable std::mutex mutex_;
  std::exception_ptr thrown_;
};

/// `value` for a callback's `user_data`; `free_owned<T>` frees it.
template <typename T>
void* owned(T value) {
  return new T(std::move(value));
}

template <typename T>
void free_owned(void* user_data) noexcept {
  delete static_cast<T*>(user_data);
}

// Every field of version 1 is there: an engine refuses an older library, and a newer one only appends.
inline progress progress_of(const diffbir_progress& from) noexcept {
  progress to;
  to.kind = static_cast<event>(from.event);
  to.stage = from.stage ? std::string_view(from.stage) : std::string_view();
  to.step = from.step;
  to.total = from.total;
  to.tile = from.tile;
  to.tiles = from.tiles;
  to.first_sample = from.first_sample;
  to.sample_count = from.sample_count;
  to.seconds = from.seconds;
  return to;
}

inline int on_progress(const diffbir_progress* now, void* user_data) noexcept {
  return (*static_cast<std::shared_ptr<listener>*>(user_data))->report(progress_of(*now)) ? 1 : 0;
}

inline void on_log(std::uint32_t level, const char* message, void* user_data) noexcept {
  try {
    (*static_cast<log_function*>(user_data))(static_cast<log_level>(level), message);
  } catch (...) {
    // No caller could receive it.
  }
}

template <typename T>
constexpr diffbir_type type_of() noexcept {
  static_assert(std::is_same_v<T, std::uint8_t> || std::is_same_v<T, std::uint16_t> || std::is_same_v<T, float>,
                "pixels are std::uint8_t, std::uint16_t or float");
  if constexpr (std::is_same_v<T, std::uint8_t>) return DIFFBIR_TYPE_U8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return DIFFBIR_TYPE_U16;
  return DIFFBIR_TYPE_F32;
}

}  // namespace detail

/// The host's pixels, to be read. A view: the memory stays the host's and is used during the call alone.
class const_pixels {
 public:
  /// `count` values (not bytes) from `data` on belong to the picture; nothing beyond is touched.
  template <typename T>
  const_pixels(const T* data, std::size_t count, std::uint32_t width, std::uint32_t height, const form& how = {})
      : c_() {
    DIFFBIR_INIT(diffbir_pixels, &c_);
    // The C structure serves both directions. What is given to a request is only read.
    c_.data = const_cast<T*>(data);
    c_.size = count * sizeof(T);
    c_.width = width;
    c_.height = height;
    c_.value_type = detail::type_of<T>();
    c_.channels = static_cast<std::uint32_t>(how.order);
    c_.layout = static_cast<std::uint32_t>(how.arrangement);
    c_.row_stride = how.row_stride;
    c_.plane_stride = how.plane_stride;
  }

  const diffbir_pixels* get() const noexcept { return &c_; }

 private:
  diffbir_pixels c_;
};

/// The host's pixels, to be written (or read).
class pixels : public const_pixels {
 public:
  template <typename T>
  pixels(T* data, std::size_t count, std::uint32_t width, std::uint32_t height, const form& how = {})
      : const_pixels(data, count, width, height, how) {
    static_assert(!std::is_const_v<T>, "pixels are written: use const_pixels for what is only read");
  }
};

/// A way to stop requests. Threads may share one.
class cancel {
 public:
  cancel() {
    diffbir_cancel* raw = nullptr;
    detail::check(diffbir_cancel_new(&raw));
    handle_.reset(raw);
  }

  /// Asks every request that was given this object to stop. From any thread, also from a callback; not from a signal
  /// handler. There is no way back.
  void trigger() const { detail::check(diffbir_cancel_trigger(handle_.get())); }

  bool is_triggered() const noexcept { return diffbir_cancel_is_triggered(handle_.get()); }

  diffbir_cancel* get() const noexcept { return handle_.get(); }

 private:
  detail::handle<diffbir_cancel, diffbir_cancel_free> handle_;
};

/// A result. Threads may share one: it never changes.
class image {
 public:
  /// Takes over a handle, which may be NULL.
  explicit image(diffbir_image* handle) noexcept : handle_(handle) {}

  std::uint32_t width() const noexcept { return diffbir_image_width(handle_.get()); }
  std::uint32_t height() const noexcept { return diffbir_image_height(handle_.get()); }
  bool has_alpha() const noexcept { return diffbir_image_has_alpha(handle_.get()); }

  /// The colours without copying: 8 bits, red, green, blue, rows close together. Lives as long as this object and those
  /// it is moved to; NULL once moved from.
  const std::uint8_t* data() const noexcept { return diffbir_image_data(handle_.get()); }

  /// How many bytes `data` has.
  std::size_t size() const noexcept { return std::size_t{3} * width() * height(); }

  /// Copies the picture into the host's memory, whose width and height have to be the image's.
  void copy_to(const pixels& place) const { detail::check(diffbir_image_copy(handle_.get(), place.get())); }

  /// The picture as the bytes of a file.
  std::vector<std::uint8_t> encode(const encode_options& how = {}) const {
    const diffbir_encode_options c = detail::c_encode_options(how);
    std::uint8_t* data = nullptr;
    std::size_t size = 0;
    detail::check(diffbir_image_encode(handle_.get(), &c, &data, &size));
    const auto release = [size](std::uint8_t* bytes) { diffbir_bytes_free(bytes, size); };
    const std::unique_ptr<std::uint8_t, decltype(release)> owned(data, release);
    return std::vector<std::uint8_t>(data, data + size);
  }

  /// Writes the picture to a file, whole or not at all.
  void write(const std::string& path, const encode_options& how = {}) const {
    const diffbir_encode_options c = detail::c_encode_options(how);
    detail::check(diffbir_image_write(handle_.get(), detail::text(path), &c));
  }

  diffbir_image* get() const noexcept { return handle_.get(); }

 private:
  detail::handle<diffbir_image, diffbir_image_free> handle_;
};

/// A bundle, ready to restore pictures. Threads may share one.
///
/// The destructor stops the engine's requests and waits until none of the submitted ones runs any more; in a callback
/// it does not wait.
class engine {
 public:
  /// Refuses, with `error_code::abi`, a library that is older than this header.
  explicit engine(const engine_options& from) {
    detail::check(DIFFBIR_ABI_CHECK());
    const std::vector<const char*> settings = detail::texts(from.settings);
    diffbir_engine_options c{};
    DIFFBIR_INIT(diffbir_engine_options, &c);
    c.config_file = detail::text(from.config_file);
    c.config_yaml = detail::text(from.config_yaml);
    c.bundle = detail::text(from.bundle);
    c.runtime_library = detail::text(from.runtime_library);
    c.settings = settings.data();
    c.setting_count = settings.size();
    c.verify = from.verify ? 1 : 0;
    c.queue_limit = from.queue_limit;
    if (from.log) {
      c.log = detail::on_log;
      c.log_data = detail::owned(from.log);
      c.log_free = detail::free_owned<log_function>;
    }
    diffbir_engine* raw = nullptr;
    detail::check(diffbir_engine_new(&c, &raw));
    handle_.reset(raw);
  }

  /// JSON; see `diffbir_engine_bundle`.
  std::string bundle() const {
    return detail::string_from([this](char** json) { return diffbir_engine_bundle(handle_.get(), json); });
  }

  /// JSON; see `diffbir_engine_runtime`.
  std::string runtime() const {
    return detail::string_from([this](char** json) { return diffbir_engine_runtime(handle_.get(), json); });
  }

  /// JSON; see `diffbir_engine_configuration`.
  std::string configuration() const {
    return detail::string_from([this](char** json) { return diffbir_engine_configuration(handle_.get(), json); });
  }

  /// Restores the picture in one file into another; see `diffbir_restore_file`.
  void restore_file(const std::string& input, const std::string& output, const options& how = {}) const {
    const detail::c_options c(how);
    detail::check(diffbir_restore_file(handle_.get(), detail::text(input), detail::text(output), &c.c));
  }

  diffbir_engine* get() const noexcept { return handle_.get(); }

 private:
  detail::handle<diffbir_engine, diffbir_engine_free> handle_;
};

/// One piece of work for an engine. For one thread at a time, except that `stop`, `poll`, `wait` and `wait_for` may be
/// called from any thread.
///
/// The destructor asks a request at work to stop and does not wait for that: the library keeps what the work needs. But
/// when it returns, the progress callback is not running, is never called again and is destroyed, so that it may refer
/// to anything that outlives this object. If the callback runs on another thread at that moment, the destructor waits
/// for it: do not hold a lock that the callback takes. A callback may destroy its own request if that was submitted,
/// not if `run` is still to return to it. All this holds for a request that is replaced by assignment too. Moving a
/// request that was submitted changes nothing for its callback.
class request {
 public:
  explicit request(const engine& engine) {
    diffbir_request* raw = nullptr;
    detail::check(diffbir_request_new(engine.get(), &raw));
    handle_.reset(raw);
  }

  // What is set drops a result that is there, and throws `invalid_state` while the request is at work.

  /// Takes the picture from a file, which is read when the request runs.
  request& set_file(const std::string& path) {
    detail::check(diffbir_request_set_file(get(), detail::text(path)));
    return *this;
  }

  /// Takes the picture from the bytes of a file. They are copied.
  request& set_bytes(const std::uint8_t* data, std::size_t size) {
    detail::check(diffbir_request_set_bytes(get(), data, size));
    return *this;
  }

  request& set_bytes(const std::vector<std::uint8_t>& bytes) { return set_bytes(bytes.data(), bytes.size()); }

  /// Takes the picture from pixels. They are copied.
  request& set_pixels(const const_pixels& pixels) {
    detail::check(diffbir_request_set_pixels(get(), pixels.get()));
    return *this;
  }

  /// Says how to restore. What is not accepted is refused here, before any work.
  request& set_options(const options& how) {
    const detail::c_options c(how);
    detail::check(diffbir_request_set_options(get(), &c.c));
    return *this;
  }

  /// Sets the function that receives progress; an empty one: none.
  request& set_progress(progress_function function) {
    std::shared_ptr<detail::listener> next;
    if (function) next = std::make_shared<detail::listener>(std::move(function));
    // What fails frees it too.
    detail::check(diffbir_request_set_progress(get(), next ? detail::on_progress : nullptr,
                                               next ? detail::owned(next) : nullptr,
                                               next ? detail::free_owned<decltype(next)> : nullptr));
    listener_ = std::move(next);
    return *this;
  }

  /// Lets `cancel` stop the request. It may be destroyed before the request.
  request& set_cancel(const cancel& cancel) {
    // A moved-from object would be NULL, which says "nothing stops it" in C.
    if (!cancel.get()) throw error(error_code::invalid_argument, "the cancel object was moved from");
    detail::check(diffbir_request_set_cancel(get(), cancel.get()));
    return *this;
  }

  /// Restores the picture on this thread. A request may be run again.
  void run() {
    begin();
    check(diffbir_request_run(get()));
  }

  /// Puts the request into the engine's queue and returns at once.
  void submit() {
    begin();
    detail::check(diffbir_request_submit(get()));
  }

  /// Asks a request that is at work to stop; `wait` for it to know that it has. One that is not stays as it is.
  void stop() const { detail::check(diffbir_request_stop(get())); }

  /// Whether a submitted request is done. Throws what the request itself failed with.
  bool poll() const {
    bool done = false;
    check(diffbir_request_poll(get(), &done));
    return done;
  }

  /// Waits until a submitted request is done. Throws what the request itself failed with.
  void wait() const { check(diffbir_request_wait(get(), DIFFBIR_FOREVER, nullptr)); }

  /// As `wait`, but for `timeout` at most; whether it is done. A timeout of 49 days and more never ends.
  template <typename Rep, typename Period>
  bool wait_for(std::chrono::duration<Rep, Period> timeout) const {
    const double ms = std::ceil(std::chrono::duration<double, std::milli>(timeout).count());
    const bool ends = ms < static_cast<double>(DIFFBIR_FOREVER);
    const std::uint32_t wanted = !ends ? DIFFBIR_FOREVER : ms > 0 ? static_cast<std::uint32_t>(ms) : 0;
    bool done = false;
    check(diffbir_request_wait(get(), wanted, &done));
    return done;
  }

  /// How many samples the result has; 0 where there is no result.
  std::size_t sample_count() const noexcept { return diffbir_request_sample_count(get()); }

  /// Sample `number`, from 0, of the result. It may outlive request and engine.
  image sample(std::size_t number = 0) const {
    diffbir_image* raw = nullptr;
    detail::check(diffbir_request_image(get(), number, &raw));
    return image(raw);
  }

  /// How the result was made, as JSON.
  std::string provenance() const {
    return detail::string_from([this](char** json) { return diffbir_request_provenance(get(), json); });
  }

  diffbir_request* get() const noexcept { return handle_.get(); }

 private:
  /// Forgets what an earlier run's callback threw, but not what the callback of a request at work did: that request is
  /// about to refuse to begin.
  void begin() {
    if (!listener_) return;
    bool done = false;
    const detail::error_handle failure(diffbir_request_poll(get(), &done));
    const bool at_work = !failure && !done;
    if (!at_work) listener_->put(nullptr);
  }

  /// Throws what the callback threw, where that is why the request failed, else what the call returned.
  void check(diffbir_error* raw) const {
    detail::error_handle failure(raw);
    if (!failure) return;
    const std::exception_ptr thrown = listener_ ? listener_->thrown() : nullptr;
    if (thrown && diffbir_error_code(raw) == DIFFBIR_CODE_CANCELLED) std::rethrow_exception(thrown);
    throw detail::taken(failure.release());
  }

  // Destroyed from below: the library's share of the callback goes first.
  std::shared_ptr<detail::listener> listener_;
  detail::handle<diffbir_request, diffbir_request_free> handle_;
};

/// The library's version, such as `0.1.0`.
inline std::string version() { return diffbir_version(); }

/// How the library was built: version, target and features.
inline std::string build_info() { return diffbir_build_info(); }

/// How many handles have not been freed.
inline std::size_t live_handles() noexcept { return diffbir_live_handles(); }

}  // namespace diffbir

#endif  // DIFFBIR_HPP
