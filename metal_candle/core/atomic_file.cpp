// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See atomic_file.h.
#include "metal_candle/core/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { (void)close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  int close() {
    const int fd = fd_;
    fd_ = -1;
    return fd < 0 ? 0 : ::close(fd);
  }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::string& temporary, const std::string& path, const char* doing) {
  const int error = errno;
  if (!temporary.empty()) ::unlink(temporary.c_str());
  throw IoError(fmt::format("{}: {}: {}", path, doing, std::strerror(error)));
}

}  // namespace

void write_file_atomically(const std::string& path, std::string_view contents) {
  std::string temporary = path + ".XXXXXX";
  Descriptor file(::mkstemp(temporary.data()));
  if (file.get() < 0) fail("", path, "cannot create a temporary file beside it");
  while (!contents.empty()) {
    const ssize_t written = ::write(file.get(), contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(temporary, path, "cannot write");
    contents.remove_prefix(static_cast<std::size_t>(written));
  }
  // mkstemp makes files private; what is written here is as shareable as the folder allows.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  if (::fchmod(file.get(), 0666 & ~mask) != 0) fail(temporary, path, "cannot set permissions");
  if (::fsync(file.get()) != 0) fail(temporary, path, "cannot sync");
  if (file.close() != 0) fail(temporary, path, "cannot close");
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    fail(temporary, path, "cannot rename into place");
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  Descriptor folder(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY));
  if (folder.get() >= 0)
    ::fsync(folder.get());  // Some file systems cannot; the file itself is safe.
}

}  // namespace metal_candle
