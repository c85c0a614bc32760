// Restores a picture from file to file, shows progress, and stops cleanly on Ctrl-C.

#include <csignal>
#include <cstdlib>
#include <diffbir.hpp>
#include <exception>
#include <iostream>
#include <string>

namespace {

// A signal handler may set a flag and hardly anything else: calling the library from it is not allowed.
volatile std::sig_atomic_t stop_asked = 0;

extern "C" void on_interrupt(int) { stop_asked = 1; }

bool show(const diffbir::progress& progress) {
  if (progress.kind == diffbir::event::step) {
    std::cerr << progress.stage << ": step " << progress.step << " of " << progress.total << '\n';
  } else if (progress.kind == diffbir::event::stage_finished) {
    std::cerr << progress.stage << ": " << progress.seconds << " s\n";
  }
  return stop_asked == 0;
}

void restore(const std::string& bundle, const std::string& input, const std::string& output,
             const diffbir::options& how) {
  const diffbir::engine engine(diffbir::engine_options{}.with_bundle(bundle));
  diffbir::request request(engine);
  request.set_file(input).set_options(how).set_progress(show).run();
  request.sample().write(output);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: " << argv[0] << " BUNDLE INPUT OUTPUT [KEY=VALUE ...]\n";
    return 2;
  }
  std::signal(SIGINT, on_interrupt);
  try {
    diffbir::options how;
    how.settings.assign(argv + 4, argv + argc);
    restore(argv[1], argv[2], argv[3], how);
    return EXIT_SUCCESS;
  } catch (const diffbir::error& error) {
    std::cerr << "error: " << error.what() << '\n';
    // As a shell reports a program that SIGINT ended.
    return error.code() == diffbir::error_code::cancelled ? 130 : EXIT_FAILURE;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
