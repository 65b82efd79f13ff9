// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The scheduler that runs kernels on the host, itself.
#include "tests/gpu_sim/fibres.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>
#include <vector>

#include "metal_candle/backend/gpu/kernels/common.h"

namespace {

struct SumArguments {
  const float* x;
  float* y;
};

MC_FUNCTION void sum_groups(MC_CONSTANT SumArguments& arguments, MC_GROUP char* memory,
                            Thread self) {
  const float x = arguments.x[self.group * self.size + self.index];
  const float sum = group_sum(x, reinterpret_cast<MC_GROUP float*>(memory), self);
  if (self.index == 0) arguments.y[self.group] = sum;
}
MC_KERNEL(test_sum_groups, SumArguments, 128, 128, sum_groups);

// Every thread reads what its neighbour wrote.
MC_FUNCTION void rotate(MC_CONSTANT SumArguments& arguments, MC_GROUP char* memory, Thread self) {
  auto* shared = reinterpret_cast<MC_GROUP float*>(memory);
  shared[self.index] = arguments.x[self.index];
  group_barrier();
  arguments.y[self.index] = shared[(self.index + 1) % self.size];
}
MC_KERNEL_DYNAMIC(test_rotate, SumArguments, 1024, rotate);

MC_FUNCTION void diverge(MC_CONSTANT SumArguments& arguments, MC_GROUP char*, Thread self) {
  if (self.index < 32) group_barrier();
  arguments.y[self.index] = 0;
}
MC_KERNEL(test_diverge, SumArguments, 64, 0, diverge);

MC_FUNCTION void lanes(MC_CONSTANT SumArguments& arguments, MC_GROUP char*, Thread self) {
  const float x = arguments.x[self.index];
  arguments.y[self.index] = lane_shuffle_down(x, 1) + 100.0f * lane_shuffle_up(x, 2) +
                            10000.0f * static_cast<float>(lane_ballot(self.lane < 3));
}
MC_KERNEL(test_lanes, SumArguments, 64, 0, lanes);

// Two warps hand values to each other in turns, by a signal for each direction. With `x` of 1 the
// last turn of the first warp does not come.
MC_FUNCTION void hand_over(MC_CONSTANT SumArguments& arguments, MC_GROUP char* memory,
                           Thread self) {
  auto* const signals = reinterpret_cast<MC_GROUP Signal*>(memory);
  auto* const value = reinterpret_cast<MC_GROUP float*>(memory + 64);
  if (self.index == 0) {
    signal_init(signals, 32);
    signal_init(signals + 1, 32);
    *value = 0;
    signals_publish();
  }
  pair_barrier();
  constexpr uint32_t kTurns = 5;
  for (uint32_t turn = 0; turn < kTurns; ++turn) {
    if (self.warp == 0) {
      signal_wait(signals + 1, 1 ^ (turn & 1));  // At once in the first turn.
      if (self.lane == 0) *value += 1;
      if (arguments.x[0] != 1 || turn + 1 < kTurns) signal_arrive(signals);
    } else {
      signal_wait(signals, turn & 1);
      if (self.lane == 0) *value *= 3;
      signal_arrive(signals + 1);
    }
  }
  pair_barrier();
  if (self.index == 0) arguments.y[0] = *value;
}
MC_KERNEL(test_hand_over, SumArguments, 64, 80, hand_over);

using metal_candle::gpu_sim::find_kernel;
using metal_candle::gpu_sim::run_grid;

void run(const char* name, std::uint32_t groups, std::uint32_t threads, const std::vector<float>& x,
         std::vector<float>& y, std::size_t bytes = 0) {
  const SumArguments arguments{x.data(), y.data()};
  run_grid(*find_kernel(name), groups, 1, 1, threads, bytes, &arguments, sizeof(arguments));
}

std::vector<float> counting(std::size_t count) {
  std::vector<float> x(count);
  std::iota(x.begin(), x.end(), 0.0f);
  return x;
}

TEST(FibresTest, AGroupSumsAcrossWarps) {
  std::vector<float> y(3);
  run("test_sum_groups", 3, 128, counting(3 * 128), y);
  EXPECT_THAT(y, ::testing::ElementsAre(8128.0f, 8128.0f + 128 * 128, 8128.0f + 2 * 128 * 128));
}

TEST(FibresTest, ABarrierOrdersSharedMemory) {
  const std::vector<float> x = counting(256);
  std::vector<float> y(256);
  run("test_rotate", 1, 256, x, y, 256 * sizeof(float));
  for (std::size_t i = 0; i < 256; ++i) EXPECT_EQ(y[i], x[(i + 1) % 256]);
}

TEST(FibresTest, ShufflesStayInTheWarp) {
  std::vector<float> y(64);
  run("test_lanes", 1, 64, counting(64), y);
  EXPECT_EQ(y[0], 1.0f + 0 + 70000.0f);
  EXPECT_EQ(y[5], 6.0f + 300 + 70000.0f);
  EXPECT_EQ(y[31], 31.0f + 2900 + 70000.0f);
  EXPECT_EQ(y[32], 33.0f + 3200 + 70000.0f);
}

TEST(FibresTest, ABarrierThatSomeNeverReachIsAnError) {
  std::vector<float> y(64);
  EXPECT_THROW(run("test_diverge", 1, 64, counting(64), y), std::logic_error);
}

TEST(FibresTest, SignalsTellWhoMayGoOn) {
  std::vector<float> y(1);
  run("test_hand_over", 1, 64, {0}, y);
  EXPECT_EQ(y[0], 363);  // ((((1 * 3 + 1) * 3 + 1) ..
  EXPECT_THROW(run("test_hand_over", 1, 64, {1}, y), std::logic_error);
  run("test_hand_over", 1, 64, {0}, y);  // And what was stopped is forgotten.
  EXPECT_EQ(y[0], 363);
}

TEST(FibresTest, WhatAGpuWouldNotLaunchIsAnError) {
  std::vector<float> y(64);
  EXPECT_THROW(run("test_lanes", 1, 33, counting(64), y), std::logic_error);
  EXPECT_THROW(run("test_lanes", 1, 128, counting(128), y), std::logic_error);
  const int wrong = 0;
  EXPECT_THROW(run_grid(*find_kernel("test_lanes"), 1, 1, 1, 32, 0, &wrong, sizeof(wrong)),
               std::logic_error);
}

}  // namespace
