// Checks what diffbir.hpp adds to the C ABI: lifetimes of callbacks, exceptions through the library, conversions.
// Every order of events is forced by waiting for it; nothing depends on time.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <diffbir.hpp>
#include <exception>
#include <functional>
#include <future>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

int checks = 0;

void expect(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error("does not hold: " + what);
  ++checks;
}

void expect_error(diffbir::error_code code, const std::string& what, const std::function<void()>& call) {
  try {
    call();
  } catch (const diffbir::error& error) {
    expect(error.code() == code, what + ": " + error.what());
    return;
  }
  throw std::logic_error("no error: " + what);
}

struct thrown_by_callback {
  int value;
};

void expect_thrown(int value, const std::string& what, const std::function<void()>& call) {
  try {
    call();
  } catch (const thrown_by_callback& thrown) {
    expect(thrown.value == value, what);
    return;
  }
  throw std::logic_error("nothing thrown: " + what);
}

/// Something that one thread does and others wait for.
class gate {
 public:
  void open() { promise_.set_value(); }
  void wait() const { future_.wait(); }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_ = promise_.get_future().share();
};

class tests {
 public:
  tests(std::string bundle, std::string picture) : bundle_(std::move(bundle)), picture_(std::move(picture)) {}

  void all() {
    errors_and_queries();
    refused_values();
    exceptions();
    pixel_forms();
    a_request_moves_while_it_works();
    stopped();
    destroyed_during_its_callback();
    destroyed_in_its_callback();
    destroyed_in_the_queue();
    cancelled();
    expect(diffbir::live_handles() == 0, "no handle is left");
  }

 private:
  diffbir::engine engine(std::uint32_t queue_limit = 0, diffbir::log_function log = {}) const {
    diffbir::engine_options from;
    return diffbir::engine(from.with_bundle(bundle_).with_queue_limit(queue_limit).with_log(std::move(log)));
  }

  diffbir::request request(const diffbir::engine& engine, diffbir::progress_function progress = {}) const {
    diffbir::request made(engine);
    made.set_file(picture_).set_options(diffbir::options{}.with_steps(2).with_upscale(1));
    made.set_progress(std::move(progress));
    return made;
  }

  /// A request that is in its first callback until `release` opens.
  diffbir::request held(const diffbir::engine& engine, gate& entered, const gate& release) const {
    diffbir::request made = request(engine, [&entered, &release, first = true](const diffbir::progress&) mutable {
      if (std::exchange(first, false)) {
        entered.open();
        release.wait();
      }
      return true;
    });
    made.submit();
    entered.wait();
    return made;
  }

  void errors_and_queries() const {
    const auto missing = diffbir::engine_options{}.with_bundle(bundle_ + "/missing");
    expect_error(diffbir::error_code::bundle, "a missing bundle", [&] { diffbir::engine{missing}; });
    std::size_t messages = 0;
    diffbir::engine made = engine(0, [&messages](diffbir::log_level, std::string_view) { ++messages; });
    expect(messages > 0, "the log is told");
    const std::vector<std::string> queries{made.bundle(), made.runtime(), made.configuration()};
    for (const std::string& json : queries) expect(json.front() == '{' && json.back() == '}', "a query is JSON");
    diffbir::request unread(made);
    unread.set_file(bundle_ + "/missing.png");
    try {
      unread.run();
    } catch (const diffbir::error& error) {
      expect(error.code() == diffbir::error_code::input && error.cause() != nullptr, "an error has its cause");
    }
    const diffbir::engine moved = std::move(made);
    expect_error(diffbir::error_code::invalid_argument, "moved from",
                 [&] { static_cast<void>(made.bundle()); });  // NOLINT: this is what is tested.
  }

  void refused_values() const {
    const diffbir::engine made = engine();
    diffbir::request one(made);
    const auto refused = [&one](diffbir::error_code code, const std::string& what, const diffbir::options& how) {
      expect_error(code, what, [&] { one.set_options(how); });
    };
    using how = diffbir::options;
    refused(diffbir::error_code::option, "0 steps", how{}.with_steps(0));
    refused(diffbir::error_code::option, "no scale", how{}.with_upscale(std::numeric_limits<double>::quiet_NaN()));
    refused(diffbir::error_code::invalid_argument, "a NUL", how{}.with_prompt(std::string("a\0b", 3)));
    refused(diffbir::error_code::option, "an unknown key", how{}.with_setting("sampling.stps=3"));
    expect_error(diffbir::error_code::invalid_state, "no input", [&] { one.run(); });
    expect_error(diffbir::error_code::invalid_state, "not submitted", [&] { one.wait(); });
  }

  /// Thrown at the first event and at the last one, on this thread and on the engine's.
  void exceptions() const {
    const diffbir::engine made = engine();
    int told = 0;
    int at = 0;
    diffbir::request one = request(made, [&told, &at](const diffbir::progress&) {
      if (++told == at) throw thrown_by_callback{at};
      return true;
    });
    one.run();
    const int last = std::exchange(told, 0);
    for (const int when : {1, last}) {
      at = when;
      expect_thrown(at, "run", [&] { one.run(); });
      told = 0;
      one.submit();
      expect_thrown(at, "wait", [&] { one.wait(); });
      expect_thrown(at, "wait again", [&] { one.wait(); });
      expect_thrown(at, "poll", [&] { one.poll(); });
      told = 0;
    }
    const diffbir::cancel stop;
    stop.trigger();
    one.set_cancel(stop);
    expect_error(diffbir::error_code::cancelled, "an exception is forgotten", [&] { one.run(); });
    at = 0;
    one = request(made);
    one.run();
    expect(one.poll() && one.sample_count() == 1, "a request that replaces another runs");
    one.set_progress([](const diffbir::progress&) { return false; });
    expect_error(diffbir::error_code::cancelled, "false stops", [&] { one.run(); });
  }

  template <typename T>
  static std::vector<T> copied(const diffbir::image& image, std::size_t count, const diffbir::form& form) {
    std::vector<T> values(count);
    image.copy_to(diffbir::pixels(values.data(), values.size(), image.width(), image.height(), form));
    return values;
  }

  void pixel_forms() const {
    const diffbir::engine made = engine();
    diffbir::request one = request(made);
    one.run();
    const diffbir::image image = one.sample();
    const std::size_t pixels = std::size_t{image.width()} * image.height();
    const std::vector<std::uint8_t> colours(image.data(), image.data() + image.size());
    expect(copied<std::uint8_t>(image, 3 * pixels, {}) == colours, "a copy is the picture");

    const std::size_t row = image.width() + std::size_t{5};
    const auto planes = copied<std::uint16_t>(image, 3 * row * image.height(),
                                              {diffbir::channels::bgr, diffbir::layout::chw, 2 * row});
    const auto floats = copied<float>(image, 4 * pixels, {diffbir::channels::rgba});
    bool same = true;
    for (std::size_t y = 0; y < image.height(); ++y) {
      for (std::size_t x = 0; x < image.width(); ++x) {
        const std::size_t at = y * image.width() + x;
        for (std::size_t c = 0; c < 3; ++c) {
          const std::size_t value = colours[3 * at + c];
          same = same && planes[((2 - c) * image.height() + y) * row + x] == 257 * value;
          same = same && floats[4 * at + c] == static_cast<float>(value) / 255.0F;
        }
        same = same && floats[4 * at + 3] == 1.0F;
      }
    }
    expect(same, "16-bit planes and floats are the picture");

    std::vector<std::uint8_t> small(3 * pixels - 1);
    expect_error(diffbir::error_code::invalid_argument, "too little room", [&] {
      image.copy_to(diffbir::pixels(small.data(), small.size(), image.width(), image.height()));
    });

    // The result without loss as bytes of a file and as pixels: the same picture goes in, the same comes out.
    one.set_options(diffbir::options{}.with_steps(2).with_upscale(1));
    one.set_bytes(image.encode()).run();
    const diffbir::image by_bytes = one.sample();
    one.set_pixels(diffbir::const_pixels(floats.data(), floats.size(), image.width(), image.height(),
                                         {diffbir::channels::rgba}));
    one.run();
    const diffbir::image by_pixels = one.sample();
    // The bytes have 8 bits, so that its result is cut off to 8 as the reference does it; floats have a result of 16 bits,
    // which are rounded to 8 here.
    bool alike = by_bytes.size() == by_pixels.size();
    for (std::size_t at = 0; alike && at < by_bytes.size(); ++at) {
      const int difference = by_bytes.data()[at] - by_pixels.data()[at];
      alike = difference >= -1 && difference <= 1;
    }
    expect(alike, "bytes and pixels give the same result but for rounding");
    expect(one.provenance().front() == '{', "the provenance is JSON");
  }

  void a_request_moves_while_it_works() const {
    const diffbir::engine made = engine();
    gate entered, release;
    diffbir::request first = held(made, entered, release);
    expect(!first.poll() && !first.wait_for(std::chrono::milliseconds(0)), "it is at work");
    expect_error(diffbir::error_code::invalid_state, "no change at work", [&] { first.set_progress({}); });
    diffbir::request second = std::move(first);
    release.open();
    second.wait();
    expect(second.sample_count() == 1, "a request that was moved ends");
  }

  void stopped() const {
    const diffbir::engine made = engine();
    gate entered, release;
    diffbir::request one = held(made, entered, release);
    one.stop();
    release.open();
    expect_error(diffbir::error_code::cancelled, "stopped", [&] { one.wait(); });
    one.run();
    expect(one.sample_count() == 1, "it runs again");
  }

  /// The destructor waits for a callback that runs on the engine's thread.
  void destroyed_during_its_callback() const {
    const diffbir::engine made = engine();
    gate entered, release;
    std::atomic<bool> left{false};
    std::optional<diffbir::request> one = request(made, [&](const diffbir::progress&) {
      entered.open();
      release.wait();
      left = true;
      return true;
    });
    one->submit();
    entered.wait();
    bool left_first = false;
    std::thread destroyer([&] {
      one.reset();
      left_first = left;
    });
    release.open();
    destroyer.join();
    expect(left_first, "the callback ended before the destructor");
  }

  void destroyed_in_its_callback() const {
    std::optional<diffbir::request> one;
    gate done;
    const auto owned = std::make_shared<int>(7);
    {
      const diffbir::engine made = engine();
      gate submitted;
      one = request(made, [&one, &submitted, &done, owned](const diffbir::progress&) {
        submitted.wait();
        one.reset();
        if (*owned == 7) done.open();
        return true;
      });
      one->submit();
      submitted.open();
      done.wait();
    }
    expect(owned.use_count() == 1, "the callback is destroyed with the call");
  }

  /// The destructor does not wait for a request's turn, and its callback is never called.
  void destroyed_in_the_queue() const {
    bool called = false;
    const auto owned = std::make_shared<int>(7);
    {
      const diffbir::engine made = engine(1);
      gate entered, release;
      diffbir::request first = held(made, entered, release);
      {
        diffbir::request second = request(made, [&called, owned](const diffbir::progress&) { return called = true; });
        second.submit();
        diffbir::request third = request(made);
        expect_error(diffbir::error_code::busy, "the queue is full", [&] { third.submit(); });
      }
      expect(owned.use_count() == 1, "the callback is destroyed with the request");
      release.open();
      first.wait();
    }
    // With the engine gone, the queue has been worked off.
    expect(!called, "the callback of an abandoned request is not called");
  }

  void cancelled() const {
    const diffbir::engine made = engine();
    diffbir::cancel stop;
    diffbir::request one = request(made, [&stop](const diffbir::progress&) {
      stop.trigger();
      return true;
    });
    one.set_cancel(stop);
    one.submit();
    expect_error(diffbir::error_code::cancelled, "cancelled", [&] { one.wait(); });
    expect(stop.is_triggered(), "it stays triggered");
    const diffbir::cancel moved = std::move(stop);
    expect_error(diffbir::error_code::invalid_argument, "a cancel object that was moved from",
                 [&] { one.set_cancel(stop); });  // NOLINT: this is what is tested.
  }

  std::string bundle_;
  std::string picture_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: " << argv[0] << " BUNDLE PICTURE\n";
    return 2;
  }
  try {
    tests(argv[1], argv[2]).all();
    std::cout << checks << '\n';
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
