// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See temporary_folder.h. A folder is called metal-candle-bench-<process>-<chance>.
#include "bench/temporary_folder.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "metal_candle/core/error.h"

namespace metal_candle::bench {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "metal-candle-bench-";

bool is_left_behind(const std::string& name) {
  if (!name.starts_with(kPrefix)) return false;
  int process = 0;
  const char* const first = name.data() + kPrefix.size();
  const auto [end, error] = std::from_chars(first, name.data() + name.size(), process);
  if (error != std::errc() || process <= 0 || *end != '-') return false;
  return ::kill(process, 0) != 0 && errno == ESRCH;
}

// Of other users or in use: they stay.
void remove_what_is_left_behind() {
  std::error_code ignored;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(fs::temp_directory_path(), ignored)) {
    if (is_left_behind(entry.path().filename().string())) fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  remove_what_is_left_behind();
  std::string path =
      (fs::temp_directory_path() / fmt::format("{}{}-XXXXXX", kPrefix, ::getpid())).string();
  if (::mkdtemp(path.data()) == nullptr) throw IoError(path + ": cannot make the folder");
  path_ = path;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace metal_candle::bench
