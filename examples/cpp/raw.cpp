// Restores raw pixels, as a host does that has pictures in memory: reads a binary PPM (P6), hands its pixels over as
// blue, green, red with padded rows, which is how OpenCV and many cameras keep them, and writes a PPM.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <diffbir.hpp>
#include <exception>
#include <fstream>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

/// Blue, green, red, 8 bits; each row begins at a multiple of 64 bytes.
struct picture {
  std::uint32_t width;
  std::uint32_t height;
  std::size_t stride;
  std::vector<std::uint8_t> bytes;

  picture(std::uint32_t w, std::uint32_t h)
      : width(w), height(h), stride((std::size_t{3} * w + 63) / 64 * 64), bytes(stride * h) {}

  std::uint8_t* row(std::uint32_t y) { return bytes.data() + y * stride; }

  diffbir::form form() const { return {diffbir::channels::bgr, diffbir::layout::hwc, stride}; }

  diffbir::pixels view() { return {bytes.data(), bytes.size(), width, height, form()}; }
};

/// A number of the header, after white space and comments.
std::uint32_t number(std::istream& in) {
  while ((in >> std::ws).peek() == '#') in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  std::uint32_t value = 0;
  if (!(in >> value) || value == 0 || value > 65535) throw std::runtime_error("the PPM's header is not valid");
  return value;
}

void swap_ends(std::uint8_t* row, std::uint32_t width) {
  for (std::uint8_t* pixel = row; pixel != row + std::size_t{3} * width; pixel += 3) std::swap(pixel[0], pixel[2]);
}

picture read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string magic(2, '\0');
  if (!in.read(magic.data(), 2) || magic != "P6") throw std::runtime_error(path + " is no binary PPM");
  const std::uint32_t width = number(in), height = number(in);
  if (number(in) != 255) throw std::runtime_error(path + " has no 8 bits");
  in.get();  // The one white space after the header.
  picture result(width, height);
  for (std::uint32_t y = 0; y < height; ++y) {
    if (!in.read(reinterpret_cast<char*>(result.row(y)), std::streamsize{3} * width)) {
      throw std::runtime_error(path + " is cut short");
    }
    swap_ends(result.row(y), width);
  }
  return result;
}

void write(const std::string& path, picture& from) {
  std::ofstream out(path, std::ios::binary);
  out << "P6\n" << from.width << ' ' << from.height << "\n255\n";
  for (std::uint32_t y = 0; y < from.height; ++y) {
    swap_ends(from.row(y), from.width);
    out.write(reinterpret_cast<const char*>(from.row(y)), std::streamsize{3} * from.width);
  }
  if (!out.flush()) throw std::runtime_error(path + " cannot be written");
}

picture restore(const std::string& bundle, picture input, const diffbir::options& how) {
  const diffbir::engine engine(diffbir::engine_options{}.with_bundle(bundle));
  diffbir::request request(engine);
  request.set_pixels(input.view()).set_options(how).run();
  const diffbir::image image = request.sample();
  picture result(image.width(), image.height());
  image.copy_to(result.view());
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: " << argv[0] << " BUNDLE INPUT.ppm OUTPUT.ppm [KEY=VALUE ...]\n";
    return 2;
  }
  try {
    diffbir::options how;
    how.settings.assign(argv + 4, argv + argc);
    picture result = restore(argv[1], read(argv[2]), how);
    write(argv[3], result);
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
