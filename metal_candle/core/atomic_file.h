// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Writing files so that a reader, or a crash, sees the old contents or the new, never half of them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace metal_candle {

/// A file that is written under a temporary name beside its own and takes its own when complete.
/// Every function throws IoError naming the file and the system's reason; the file is then as it
/// was. Not thread safe.
class AtomicFile {
 public:
  /// Creates the temporary file.
  explicit AtomicFile(std::string path);
  /// Removes the temporary file, unless commit() gave it its name.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Syncs the file, renames it over `path` and syncs the folder. The last call.
  void commit();

 private:
  [[noreturn]] void fail(const char* doing) const;

  std::string path_;
  std::string temporary_;  // Empty once it has the file's own name.
  int descriptor_ = -1;
};

/// AtomicFile in one call.
void write_file_atomically(const std::string& path, std::string_view contents);

}  // namespace metal_candle
