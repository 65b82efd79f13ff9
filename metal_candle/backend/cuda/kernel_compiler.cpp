// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See kernel_compiler.h.
#include "metal_candle/backend/cuda/kernel_compiler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "metal_candle/backend/cuda/embedded.h"
#include "metal_candle/backend/cuda/libraries.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/cache_folder.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cuda {
namespace {

namespace fs = std::filesystem;

// Compiled kernels of this user; empty if there is nowhere to keep them.
fs::path cache_folder() {
  const fs::path folder = user_cache_folder();
  return folder.empty() ? folder : folder / "cuda";
}

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

// Files of the cache begin with the text they were made of, so that a hash that two texts share
// does no harm.
std::vector<char> read_cached(const fs::path& path, const std::string& key) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const std::size_t header = key.size() + 1;
  if (bytes.size() <= header || std::string_view(bytes.data(), key.size()) != key) return {};
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header));
  return bytes;
}

void write_cached(const fs::path& path, const std::string& key, const std::vector<char>& image) {
  try {
    fs::create_directories(path.parent_path());
    AtomicFile file(path.string());
    file.write(key);
    file.write(std::string_view("\0", 1));
    file.write(std::string_view(image.data(), image.size()));
    file.commit();
  } catch (const std::exception&) {
    // A cache that cannot be written costs time, not correctness.
  }
}

std::vector<char> compile_with_nvrtc(const std::string& name, const std::string& text,
                                     const std::vector<std::string>& options) {
  const Nvrtc& library = nvrtc();
  nvrtcProgram program = nullptr;
  check(library.nvrtcCreateProgram(&program, text.c_str(), name.c_str(), 0, nullptr, nullptr),
        "nvrtcCreateProgram");
  std::vector<const char*> words;
  for (const std::string& option : options) words.push_back(option.c_str());
  const nvrtcResult result =
      library.nvrtcCompileProgram(program, static_cast<int>(words.size()), words.data());
  if (result != NVRTC_SUCCESS) {
    std::size_t size = 0;
    library.nvrtcGetProgramLogSize(program, &size);
    std::string log(size, '\0');
    library.nvrtcGetProgramLog(program, log.data());
    library.nvrtcDestroyProgram(&program);
    throw DeviceError(fmt::format("cuda: {} does not compile: {}\n{}", name, log, text));
  }
  std::size_t size = 0;
  check(library.nvrtcGetCUBINSize(program, &size), "nvrtcGetCUBINSize");
  std::vector<char> image(size);
  check(library.nvrtcGetCUBIN(program, image.data()), "nvrtcGetCUBIN");
  library.nvrtcDestroyProgram(&program);
  return image;
}

std::string whole(const KernelText& text) {
  return fmt::format("#define {}\n{}{}", text.macro, kDialectText, text.source);
}

// Where what is made of a text is kept, and the line and text that the file begins with. No path
// where there is no folder.
struct Place {
  Place(const KernelText& text, const std::string& made_with) : key(made_with + whole(text)) {
    const fs::path folder = cache_folder();
    if (!folder.empty()) path = folder / fmt::format("{}-{:016x}.cubin", text.name, fnv1a(key));
  }
  std::string key;
  fs::path path;
};

}  // namespace

KernelCompiler::KernelCompiler(int architecture)
    : options_{fmt::format("--gpu-architecture=sm_{}", architecture), "--std=c++17",
               "--fmad=false"} {
  int major = 0, minor = 0;
  check(nvrtc().nvrtcVersion(&major, &minor), "nvrtcVersion");
  // Without textures and the runtime's types, which take a tenth of the time.
  if (major > 12 || minor >= 4) options_.emplace_back("--minimal");
  version_ = 1000 * major + 10 * minor;
  made_with_ = fmt::format("// NVRTC {}.{} {}\n", major, minor, fmt::join(options_, " "));
}

std::vector<char> KernelCompiler::find(const KernelText& text) const {
  const Place place(text, made_with_);
  return place.path.empty() ? std::vector<char>() : read_cached(place.path, place.key);
}

std::vector<char> KernelCompiler::compile(const KernelText& text) const {
  std::vector<char> image = compile_with_nvrtc(text.name, whole(text), options_);
  const Place place(text, made_with_);
  if (!place.path.empty()) write_cached(place.path, place.key, image);
  return image;
}

}  // namespace metal_candle::backend::cuda
