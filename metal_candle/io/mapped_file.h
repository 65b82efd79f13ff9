// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A file as memory: read from disk page by page as it is touched, shared between processes, and
// given up by the system before anything that would have to be written out.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace metal_candle {

/// Read-only, thread safe. A file that another process shortens while it is mapped ends this
/// process with SIGBUS when the missing part is read: replace files by renaming, as AtomicFile
/// does; the mapping then keeps the old contents.
class MappedFile {
 public:
  /// Throws IoError naming the file and the system's reason, also for what is no regular file.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// Begins at a page boundary; empty for an empty file.
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

}  // namespace metal_candle
