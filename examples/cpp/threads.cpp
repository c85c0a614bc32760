// Restores several pictures with one engine that several threads share: each thread submits a request, waits for it and
// writes the result. The first failure stops all of them.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <diffbir.hpp>
#include <exception>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

// Networks run one request at a time. More threads pay off because one reads and writes files while another's request
// runs; a few are enough for that.
constexpr std::size_t most_threads = 4;

class batch {
 public:
  batch(const diffbir::engine& engine, std::vector<std::filesystem::path> inputs, std::filesystem::path folder,
        std::uint32_t steps)
      : engine_(engine), inputs_(std::move(inputs)), folder_(std::move(folder)), steps_(steps) {}

  /// Returns when every picture is done, or throws what failed first.
  void run() {
    std::vector<std::thread> threads;
    const std::size_t count = std::min(inputs_.size(), most_threads);
    try {
      for (std::size_t k = 0; k < count; ++k) threads.emplace_back([this] { work(); });
    } catch (...) {
      fail(std::current_exception());
    }
    for (std::thread& thread : threads) thread.join();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  /// Takes pictures until there are none left. No exception may leave a thread.
  void work() noexcept {
    try {
      for (std::size_t k = next_++; k < inputs_.size() && !stop_.is_triggered(); k = next_++) restore(inputs_[k]);
    } catch (...) {
      fail(std::current_exception());
    }
  }

  void restore(const std::filesystem::path& input) const {
    diffbir::request request(engine_);
    request.set_file(input.string()).set_options(diffbir::options{}.with_steps(steps_)).set_cancel(stop_);
    request.submit();
    request.wait();
    request.sample().write((folder_ / input.stem()).string() + ".png");
  }

  /// Keeps the first failure: the others follow from it.
  void fail(std::exception_ptr failure) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (failure_) return;
    failure_ = std::move(failure);
    stop_.trigger();
  }

  const diffbir::engine& engine_;
  std::vector<std::filesystem::path> inputs_;
  std::filesystem::path folder_;
  std::uint32_t steps_;
  std::atomic<std::size_t> next_{0};
  diffbir::cancel stop_;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "usage: " << argv[0] << " BUNDLE STEPS FOLDER INPUT ...\n";
    return 2;
  }
  try {
    const diffbir::engine engine(diffbir::engine_options{}.with_bundle(argv[1]));
    const auto steps = static_cast<std::uint32_t>(std::stoul(argv[2]));
    batch(engine, {argv + 4, argv + argc}, argv[3], steps).run();
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
