// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Outputs written over inputs that nobody will read again, and never over others.
#include <gtest/gtest.h>

#include <thread>
#include <utility>

#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

constexpr std::int64_t kCount = 1 << 14;

/// Which memory, on any device: a buffer, and how far into it.
std::pair<const void*, std::size_t> address(const Tensor& tensor) {
  const Value& value = tensor.node()->value();
  return {value.storage->buffer(), value.offset};
}

/// Evaluated, in memory of its own that no constant shares.
Tensor fresh(float value) {
  return Tensor(std::vector<float>(static_cast<std::size_t>(kCount), value), {kCount});
}

std::vector<float> repeated(float value) {
  return std::vector<float>(static_cast<std::size_t>(kCount), value);
}

TEST(Donation, ATrainingLoopReusesTheParametersMemory) {
  Tensor p = fresh(8);
  const Tensor g = fresh(1);
  const Tensor rate(0.5f);
  const auto memory = address(p);
  reset_counters();
  for (int step = 0; step < 10; ++step) {
    p = p - rate * g;
    p.eval();
    EXPECT_EQ(address(p), memory) << step;
  }
  EXPECT_EQ(counters().donations, 10u);
  EXPECT_EQ(p.to_vector<float>(), repeated(3));
}

TEST(Donation, QueuedAndInEveryMode) {
  for (const ExecutionMode mode :
       {ExecutionMode::kEager, ExecutionMode::kSync, ExecutionMode::kAsync}) {
    const ScopedExecutionMode scope(mode);
    SCOPED_TRACE(name(mode));
    Tensor p = fresh(1);
    const auto memory = address(p);
    reset_counters();
    for (int step = 0; step < 40; ++step) {
      p = p + 1.0;
      (void)p.eval_async();
    }
    EXPECT_EQ(p.to_vector<float>(), repeated(41));
    // An eager operation runs while its operand is still held.
    if (mode == ExecutionMode::kEager) continue;
    EXPECT_EQ(address(p), memory);
    EXPECT_EQ(counters().donations, 40u);
  }
}

TEST(Donation, NotWhileAnotherHandleIsHeld) {
  Tensor p = fresh(1);
  const Tensor held = p;
  p = p + 1.0;
  p.eval();
  EXPECT_NE(address(p), address(held));
  EXPECT_EQ(held.to_vector<float>(), repeated(1));
  EXPECT_EQ(p.to_vector<float>(), repeated(2));
}

TEST(Donation, NotWhileAViewIsHeld) {
  Tensor p = fresh(1);
  const Tensor view = p.slice({{10, 20}}).eval();
  p = p + 1.0;
  p.eval();
  EXPECT_EQ(view.to_vector<float>(), std::vector<float>(10, 1.0f));
  const Tensor pending_view = p.slice({{0, 5}});
  p = p * 3.0;
  p.eval();
  EXPECT_EQ(pending_view.to_vector<float>(), std::vector<float>(5, 2.0f));
}

TEST(Donation, NotWhileAPendingGraphReads) {
  Tensor p = fresh(1);
  const Tensor later = sum(p * 2.0);
  p = p + 1.0;
  p.eval();
  EXPECT_EQ(later.item<float>(), 2.0f * kCount);
  EXPECT_EQ(p.to_vector<float>(), repeated(2));
}

TEST(Donation, NotWhileAnIntermediateIsHeld) {
  // The handle on what is in between reaches p still.
  Tensor p = fresh(1);
  const Tensor between = p * 2.0;
  p = between + 1.0;
  p.eval();
  EXPECT_EQ(between.to_vector<float>(), repeated(2));
  EXPECT_EQ(p.to_vector<float>(), repeated(3));
}

TEST(Donation, NotWhileReadInQueuedWork) {
  for (int queue = 0; queue < 4; ++queue) {
    Tensor p = fresh(1);
    std::vector<Tensor> readers;
    for (int i = 0; i < 8; ++i) {
      readers.push_back(cumsum(p, 0));
      (void)eval_async({readers.back()}, queue);
      p = p + 1.0;
      (void)p.eval_async();
    }
    for (std::size_t i = 0; i < readers.size(); ++i) {
      EXPECT_EQ(readers[i].to_vector<float>().back(), static_cast<float>(i + 1) * kCount)
          << "queue " << queue;
    }
  }
}

TEST(Donation, NotOverWhatAQueueStillReadsWhenTheModeChanges) {
  // Something long before it on the queue, so that the reader has not run yet.
  for (const ExecutionMode mode : {ExecutionMode::kSync, ExecutionMode::kEager}) {
    Tensor busy = ones({400, 400}).eval();
    for (int i = 0; i < 4; ++i) busy = matmul(busy, busy) * (1.0 / 400);
    Tensor p = fresh(1);
    const Future first = busy.eval_async();
    const Tensor reader = p * 2.0;
    const Future second = reader.eval_async();
    {
      const ScopedExecutionMode scope(mode);
      p = p + 5.0;
      p.eval();
    }
    EXPECT_EQ(reader.to_vector<float>(), repeated(2)) << name(mode);
    EXPECT_EQ(p.to_vector<float>(), repeated(6));
  }
}

TEST(Donation, NotOverAnOutputOrTwice) {
  const Tensor p = fresh(2);
  Tensor q = p * 1.0;
  q.eval();
  const Tensor a = q + 1.0, b = q + 2.0;
  const std::vector<Tensor> outputs{a, b, q};
  q = Tensor();
  eval(outputs);
  EXPECT_EQ(outputs[0].to_vector<float>(), repeated(3));
  EXPECT_EQ(outputs[1].to_vector<float>(), repeated(4));
  EXPECT_EQ(outputs[2].to_vector<float>(), repeated(2));
  EXPECT_NE(address(outputs[0]), address(outputs[1]));
}

TEST(Donation, OperandsThatAreTheSameOrTurned) {
  Tensor p = reshape(arange(0.0f, 16384.0f), {128, 128}).eval();
  const std::vector<float> before = p.to_vector<float>();
  p = p + transpose(p);
  p.eval();
  const std::vector<float> after = p.to_vector<float>();
  EXPECT_EQ(after[1], before[1] + before[128]);
  EXPECT_EQ(after[128], before[1] + before[128]);
  EXPECT_EQ(after[127], before[127] + before[127 * 128]);
  p = p * p;
  EXPECT_EQ(p.to_vector<float>()[1], after[1] * after[1]);
}

TEST(Donation, ConstantsOfAPlanAreNotOverwritten) {
  for (int i = 0; i < 3; ++i) {
    Tensor p = ones({kCount}) * 2.0;
    p.eval();
    p = p + 1.0;
    EXPECT_EQ(p.to_vector<float>(), repeated(3));
  }
}

TEST(SliceUpdate, InPlaceWhenNobodyElseHoldsIt) {
  Tensor cache = fresh(0);
  const auto memory = address(cache);
  const Tensor row = ones({4}).eval();
  for (std::int64_t i = 0; i < 10; ++i) {
    cache = slice_update(cache, row * static_cast<double>(i), {4 * i});
    cache.eval();
    EXPECT_EQ(address(cache), memory);
  }
  for (std::int64_t i = 10; i < 20; ++i) {
    cache = dynamic_slice_update(cache, row * static_cast<double>(i), Tensor(4 * i), {0});
    cache.eval();
    EXPECT_EQ(address(cache), memory);
  }
  const std::vector<float> values = cache.to_vector<float>();
  for (std::size_t i = 0; i < 80; ++i) EXPECT_EQ(values[i], static_cast<float>(i / 4));
  EXPECT_EQ(values[80], 0.0f);
}

TEST(SliceUpdate, CopiesWhenShared) {
  Tensor cache = fresh(0);
  const Tensor held = cache;
  cache = slice_update(cache, ones({4}), {2});
  cache.eval();
  EXPECT_NE(address(cache), address(held));
  EXPECT_EQ(held.to_vector<float>(), repeated(0));
  EXPECT_EQ(cache.to_vector<float>()[2], 1.0f);
  const Tensor view = cache.slice({{0, 8}}).eval();
  cache = slice_update(cache, ones({4}) * 7.0, {0});
  cache.eval();
  EXPECT_EQ(view.to_vector<float>()[2], 1.0f);
  EXPECT_EQ(cache.to_vector<float>()[2], 7.0f);
}

TEST(SliceUpdate, WithAnUpdateThatReadsTheSameMemory) {
  Tensor x = arange(0.0f, 4096.0f).eval();
  // Overlapping: rows move by one.
  x = slice_update(x, x.slice({{0, 4095}}), {1});
  const std::vector<float> values = x.to_vector<float>();
  EXPECT_EQ(values[0], 0.0f);
  for (std::size_t i = 1; i < 4096; ++i) ASSERT_EQ(values[i], static_cast<float>(i - 1));
}

TEST(Donation, NotWhileAnotherThreadHoldsIt) {
  for (int round = 0; round < 50; ++round) {
    Tensor p = fresh(1);
    std::thread other([copy = p] {
      const Tensor y = copy * 3.0;
      EXPECT_EQ(y.to_vector<float>(), repeated(3));
    });
    p = p + 1.0;
    p.eval();
    other.join();
    EXPECT_EQ(p.to_vector<float>(), repeated(2));
  }
}

}  // namespace
}  // namespace metal_candle
