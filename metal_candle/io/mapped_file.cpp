// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See mapped_file.h.
#include "metal_candle/io/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

[[noreturn]] void fail(const std::string& path, const char* doing, int error) {
  throw IoError(fmt::format("{}: {}: {}", path, doing,
                            std::error_code(error, std::generic_category()).message()));
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a pipe would wait for its writer.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) fail(path, "cannot open", errno);
  struct stat status {};
  const bool known = ::fstat(descriptor, &status) == 0;
  const auto size = static_cast<std::size_t>(status.st_size);
  void* memory = nullptr;
  int error = known ? 0 : errno;
  if (known && S_ISREG(status.st_mode) && size > 0) {
    memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (memory == MAP_FAILED) error = errno;
  }
  ::close(descriptor);  // The mapping stays.
  if (error != 0) fail(path, "cannot map", error);
  if (!S_ISREG(status.st_mode)) {
    throw IoError(fmt::format("{}: is {}, not a file", path,
                              S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe"));
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile({static_cast<const std::byte*>(memory), memory == nullptr ? 0 : size}));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace metal_candle
