// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Queues of the CUDA backend, over a driver that computes nothing (tests/cuda_sim).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/backend/cuda/cuda_sim_test.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using cuda_sim::Control;
using ::testing::HasSubstr;
using testing::message_of;

class CudaQueueTest : public testing::CudaSimTest {
 protected:
  void SetUp() override {
    control_ = find<decltype(metal_candle_cuda_sim)>("libcuda.so.1", "metal_candle_cuda_sim");
    if (control_ == nullptr) GTEST_SKIP() << "this is the driver of a GPU";
    x_ = zeros({16}, DType::kF32, device_).eval();
  }
  void TearDown() override {
    if (control_ == nullptr) return;
    control_(Control::kLetGo, 0);
    synchronize(device_);
  }

  /// Of so many steps that cannot become one.
  [[nodiscard]] Tensor steps(int count) const {
    Tensor y = x_;
    for (int i = 0; i < count; ++i) y = cumsum(y, 0);
    return y;
  }

  decltype(&metal_candle_cuda_sim) control_ = nullptr;
  Tensor x_;
};

/// Lets go of the device after a time in which a test must have come to its end.
class Watchdog {
 public:
  explicit Watchdog(decltype(&metal_candle_cuda_sim) control)
      : thread_([this, control] {
          for (int i = 0; i < 2000 && !over_; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
          }
          bitten_ = !over_;
          if (bitten_) control(Control::kLetGo, 0);
        }) {}
  ~Watchdog() {
    over_ = true;
    thread_.join();
  }
  [[nodiscard]] bool has_bitten() const { return bitten_; }

 private:
  std::atomic<bool> over_{false}, bitten_{false};
  std::thread thread_;
};

TEST_F(CudaQueueTest, WhoWaitsForAWorkDoesNotWaitForTheNext) {
  for (int i = 0; i < 3; ++i) steps(20).eval();  // Makes plan and graph.
  for (int i = 0; i < 20; ++i) {
    const Tensor first = steps(20), second = steps(20);
    const Future one = first.eval_async();
    control_(Control::kHold, 0);
    const Future two = second.eval_async();
    {
      const Watchdog watchdog(control_);
      one.wait();
      ASSERT_FALSE(watchdog.has_bitten());
    }
    EXPECT_FALSE(two.ready());
    control_(Control::kLetGo, 0);
    two.wait();
  }
}

TEST_F(CudaQueueTest, SmallWorksAreDeliveredAndTheirMemoryComesBack) {
  synchronize(device_);
  const std::size_t before = memory_use(device_).in_use;
  Tensor last;
  for (int i = 0; i < 3000; ++i) {
    last = steps(1);
    static_cast<void>(last.eval_async());
  }
  last.eval();
  last = {};
  synchronize(device_);
  EXPECT_EQ(memory_use(device_).in_use, before);
}

TEST_F(CudaQueueTest, AFullQueueMakesCommitsWait) {
  const std::uint64_t waits = counters().full_waits;
  control_(Control::kHold, 0);
  std::atomic<int> committed{0};
  std::thread thread([&] {
    for (int i = 0; i < 300; ++i) {
      static_cast<void>(steps(1).eval_async());
      ++committed;
    }
  });
  {
    const Watchdog watchdog(control_);
    while (counters().full_waits == waits && !watchdog.has_bitten()) std::this_thread::yield();
    EXPECT_FALSE(watchdog.has_bitten());
  }
  EXPECT_LT(committed, 300);
  control_(Control::kLetGo, 0);
  thread.join();
  EXPECT_EQ(committed, 300);
}

TEST_F(CudaQueueTest, ManyThreadsCommitAndWait) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const Tensor y = steps(1 + (i + t) % 12);
        if (i % 3 == 0) {
          y.eval_async().wait();
        } else {
          static_cast<void>(y.eval_async());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// While the device has other things to do, works of one command each are launched several at once.
TEST_F(CudaQueueTest, SmallWorksBehindOthersAreLaunchedTogether) {
  const auto launches = [] { return counters().graph_launches + counters().direct_launches; };
  std::uint64_t used = 0;
  for (int round = 0; round < 12; ++round) {
    const std::uint64_t before = launches();
    control_(Control::kHold, 0);
    std::vector<Future> futures;
    for (int i = 0; i < 70; ++i) futures.push_back(steps(1).eval_async());
    EXPECT_FALSE(futures.back().ready());
    control_(Control::kLetGo, 0);
    for (const Future& future : futures) future.wait();
    used = launches() - before;
  }
  EXPECT_GE(used, 70u / 8);
  EXPECT_LE(used, 20u);
}

// Nobody waits, nobody commits: they are launched all the same.
TEST_F(CudaQueueTest, SmallWorksThatNobodyWaitsForAreDone) {
  for (int round = 0; round < 8; ++round) {
    control_(Control::kHold, 0);
    std::vector<Future> futures;
    for (int i = 0; i < 11 + round; ++i) futures.push_back(steps(1).eval_async());
    control_(Control::kLetGo, 0);
    const Watchdog watchdog(control_);
    for (const Future& future : futures) {
      while (!future.ready() && !watchdog.has_bitten()) std::this_thread::yield();
    }
    ASSERT_FALSE(watchdog.has_bitten());
  }
}

// A larger work behind those that are held, and one on another queue that reads what they give.
TEST_F(CudaQueueTest, WhatFollowsHeldWorksIsDone) {
  for (int round = 0; round < 4; ++round) {
    control_(Control::kHold, 0);
    Tensor y = x_;
    for (int i = 0; i < 9; ++i) {
      y = cumsum(y, 0);
      static_cast<void>(y.eval_async());
    }
    Tensor large = y;
    for (int i = 0; i < 20; ++i) large = cumsum(large, 0);
    const Future last = large.eval_async();
    const Future elsewhere = eval_async({cumsum(y, 0)}, /*queue=*/1);
    control_(Control::kLetGo, 0);
    const Watchdog watchdog(control_);
    elsewhere.wait();
    last.wait();
    ASSERT_FALSE(watchdog.has_bitten());
  }
}

TEST_F(CudaQueueTest, AFailedLaunchOfHeldWorksIsToldToEachAndOthersGoOn) {
  synchronize(device_);
  const std::size_t before = memory_use(device_).in_use;
  for (int round = 0; round < 8; ++round) {
    control_(Control::kHold, 0);
    std::vector<Future> futures;
    for (int i = 0; i < 9; ++i) futures.push_back(steps(1).eval_async());
    control_(Control::kFailLaunches, 1);
    const Future last = steps(1).eval_async();
    control_(Control::kLetGo, 0);
    EXPECT_THAT(message_of<DeviceError>([&] { last.wait(); }), HasSubstr("cumulative_sum"));
    for (std::size_t i = 0; i < 6; ++i) futures[i].wait();
    for (std::size_t i = 6; i < futures.size(); ++i) {
      EXPECT_THAT(message_of<DeviceError>([&] { futures[i].wait(); }), HasSubstr("cumulative_sum"));
    }
  }
  steps(1).eval_async().wait();
  synchronize(device_);
  EXPECT_EQ(memory_use(device_).in_use, before);
}

TEST_F(CudaQueueTest, WithoutMemoryForAGraphCommandsAreLaunchedOneByOne) {
  const std::uint64_t direct = counters().direct_launches, made = counters().graphs_made;
  control_(Control::kFailGraphs, 2);
  for (int i = 0; i < 5; ++i) steps(33).eval();
  // The first time, because it is new, and twice because of the memory.
  EXPECT_EQ(counters().direct_launches - direct, 3u);
  EXPECT_GE(counters().graphs_made - made, 1u);
}

TEST_F(CudaQueueTest, AFailedLaunchIsToldByNameAndOthersGoOn) {
  for (int i = 0; i < 3; ++i) steps(3).eval();
  control_(Control::kFailLaunches, 1);
  const Tensor failing = steps(3);
  EXPECT_THAT(message_of<DeviceError>([&] { failing.eval_async().wait(); }),
              HasSubstr("cumulative_sum"));
  steps(3).eval_async().wait();
  steps(5).eval();
}

}  // namespace
}  // namespace metal_candle
