// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Folders of benchmarks, and what processes that were killed leave.
#include "bench/temporary_folder.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

namespace metal_candle::bench {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(int process) {
  const fs::path path =
      fs::temp_directory_path() / fmt::format("metal-candle-bench-{}-abc123", process);
  fs::create_directories(path / "inside");
  std::ofstream(path / "inside" / "file") << "x";
  return path;
}

TEST(TemporaryFolder, GoesWithTheObject) {
  std::string path;
  {
    const TemporaryFolder folder;
    path = folder.path();
    std::ofstream(folder / "file") << "x";
    EXPECT_TRUE(fs::exists(folder / "file"));
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(TemporaryFolder, ThoseOfDeadProcessesAreRemoved) {
  const pid_t dead = ::fork();
  if (dead == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(dead, nullptr, 0), dead);
  const fs::path left = folder_of(dead);
  const fs::path alive = folder_of(::getpid());
  const TemporaryFolder folder;
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(alive));
  fs::remove_all(alive);
}

}  // namespace
}  // namespace metal_candle::bench
