// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/core/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "metal_candle/core/error.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryFolder;

TEST(AtomicFile, AppearsWhenCommitted) {
  const TemporaryFolder folder;
  folder.write("x", "old");
  {
    AtomicFile file(folder / "x");
    file.write("new");
    file.write(std::string(100'000, '+'));
    EXPECT_EQ(folder.read("x"), "old");
    EXPECT_EQ(folder.num_files(), 2u);
    file.commit();
    EXPECT_EQ(folder.read("x"), "new" + std::string(100'000, '+'));
  }
  EXPECT_EQ(folder.num_files(), 1u);
}

TEST(AtomicFile, LeavesNothingWhenNotCommitted) {
  const TemporaryFolder folder;
  folder.write("x", "old");
  { AtomicFile(folder / "x").write("new"); }
  EXPECT_EQ(folder.read("x"), "old");
  EXPECT_EQ(folder.num_files(), 1u);
}

TEST(AtomicFile, TwoMayBeWrittenAtOnce) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "x"), second(folder / "x");
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(folder.read("x"), "first");
}

TEST(AtomicFile, HasThePermissionsOfAnyNewFile) {
  const TemporaryFolder folder;
  const mode_t before = ::umask(027);
  write_file_atomically(folder / "x", "");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "x").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  const TemporaryFolder folder;
  folder.write("x", "old");
  const testing::FileSizeLimit full(1000);
  EXPECT_THAT(
      message_of<IoError>([&] { write_file_atomically(folder / "x", std::string(2000, '+')); }),
      AllOf(HasSubstr(folder / "x"), HasSubstr("cannot write"), HasSubstr("File too large")));
  EXPECT_EQ(folder.read("x"), "old");
  EXPECT_EQ(folder.num_files(), 1u);
}

TEST(AtomicFile, WhatCannotBeReplacedIsSaidSo) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(folder / "no/x", ""); }),
              AllOf(HasSubstr(folder / "no/x"), HasSubstr("No such file or directory")));
  std::filesystem::create_directories(folder / "busy/child");
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(folder / "busy", ""); }),
              AllOf(HasSubstr(folder / "busy"), HasSubstr("cannot rename into place")));
  EXPECT_EQ(folder.num_files(), 1u);
}

}  // namespace
}  // namespace metal_candle
