// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Quotas of processor time in folders as Linux has them.
#include "metal_candle/backend/cpu/cpu_quota.h"

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace metal_candle::backend::cpu {
namespace {

class CpuQuota : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(
        (std::filesystem::path(folder_.path()) / name).parent_path());
    static_cast<void>(folder_.write(name, text));
  }
  [[nodiscard]] std::optional<int> quota() const { return cpu_quota(folder_.path()); }

  testing::TemporaryFolder folder_;
};

TEST_F(CpuQuota, NoneWhereNothingSaysSo) {
  EXPECT_EQ(quota(), std::nullopt);
  write("proc/self/cgroup", "0::/\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(CpuQuota, IsRoundedUp) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  EXPECT_EQ(quota(), 2);
  write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(quota(), 2);
  write("sys/fs/cgroup/cpu.max", "5000 100000\n");
  EXPECT_EQ(quota(), 1);
}

TEST_F(CpuQuota, IsTheLeastOfTheGroupAndThoseAboveIt) {
  write("proc/self/cgroup", "0::/machine/job\n");
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/machine/cpu.max", "300000 100000\n");
  write("sys/fs/cgroup/machine/job/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 3);
  write("sys/fs/cgroup/machine/job/cpu.max", "800000 100000\n");
  EXPECT_EQ(quota(), 3);
  write("sys/fs/cgroup/machine/job/cpu.max", "100000 100000\n");
  EXPECT_EQ(quota(), 1);
}

TEST_F(CpuQuota, OfTheFirstVersion) {
  write("proc/self/cgroup", "7:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
  EXPECT_EQ(quota(), 4);
}

TEST_F(CpuQuota, WhatCannotBeReadIsNone) {
  write("proc/self/cgroup", "nonsense\n0:\n0::/\n");
  for (const char* text : {"", "many few\n", "100000\n", "100000 0\n", "100000 -5\n"}) {
    write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(quota(), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu
