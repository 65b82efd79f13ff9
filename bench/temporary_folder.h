// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Where a benchmark puts a model of a gigabyte.
#pragma once

#include <filesystem>
#include <string>

namespace metal_candle::bench {

/// A folder for as long as the object lives. What a process left that was killed goes when the next
/// one makes a folder. Throws IoError.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string operator/(const char* name) const { return (path_ / name).string(); }
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace metal_candle::bench
