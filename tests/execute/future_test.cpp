// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Futures: waiting, asking, co_await, and errors on their way to whoever waits.
#include "metal_candle/execute/future.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <coroutine>
#include <future>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/mode.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/host_only.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;

/// A coroutine that starts at once and reports its end through a std::promise.
struct Task {
  struct promise_type {
    std::promise<void> done;
    Task get_return_object() { return {done.get_future()}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() { done.set_value(); }
    void unhandled_exception() { done.set_exception(std::current_exception()); }
  };
  std::future<void> done;
};

Tensor some_work() {
  Tensor y = arange(0.0f, 20000.0f).eval();
  for (int i = 0; i < 10; ++i) y = cumsum(y, 0) * 1e-5 + 1.0;
  return y;
}

Tensor out_of_range() { return take(ones({3}), Tensor({7}), 0); }

template <typename Fn>
std::string device_error(Fn&& fn) {
  try {
    fn();
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "no DeviceError was thrown";
}

TEST(Future, WaitsAndGivesTheTensors) {
  const Tensor x = some_work(), y = x * 2.0;
  const Future future = eval_async(x, y);
  const std::span<const Tensor> got = future.get();
  EXPECT_TRUE(future.ready());
  ASSERT_EQ(got.size(), 2u);
  EXPECT_TRUE(got[0].same_node(x));
  EXPECT_EQ(got[1].to_vector<float>()[0], 2 * got[0].to_vector<float>()[0]);
}

TEST(Future, AnEmptyOneIsReady) {
  const Future future;
  EXPECT_TRUE(future.ready());
  EXPECT_TRUE(future.get().empty());
}

TEST(Future, OutputsAreUsableBeforeTheyAreComputed) {
  const Tensor x = some_work();
  const Future future = x.eval_async();
  EXPECT_TRUE(x.is_evaluated());
  const Tensor y = x - x + 3.0;
  EXPECT_EQ(y.to_vector<float>()[7], 3.0f);
}

TEST(Future, SmallWorkOfAnIdleQueueIsDoneWhereItIsAskedFor) {
  METAL_CANDLE_HOST_ONLY("a GPU does nothing on the thread that asks");
  const ScopedExecutionMode mode(ExecutionMode::kAsync);
  const Tensor small = ones({64}).eval(), large = ones({1 << 20}).eval();
  synchronize();
  const Counters before = counters();
  const Tensor y = small + 1.0;
  EXPECT_TRUE(y.eval_async().ready());
  EXPECT_EQ(counters().inline_buffers - before.inline_buffers, 1u);
  EXPECT_EQ(y.to_vector<float>()[63], 2.0f);
  // What is large is handed over, and what depends on it comes after it.
  const Tensor total = cumsum(large + 1.0, 0);
  const Future first = total.eval_async();
  const Tensor last = total.slice({{(1 << 20) - 1, 1 << 20}}) + 1.0;
  const Future second = last.eval_async();
  first.wait();
  second.wait();
  EXPECT_EQ(last.item<float>(), static_cast<float>((2 << 20) + 1));
  EXPECT_GE(counters().command_buffers - counters().inline_buffers,
            before.command_buffers - before.inline_buffers + 1);
}

TEST(Future, AnotherQueueIsRefusedByNumber) {
  EXPECT_THROW((void)eval_async(std::vector{ones({2}) + 1.0}, 99), DeviceError);
  EXPECT_THROW((void)eval_async(std::vector{ones({2}) + 1.0}, -1), DeviceError);
}

Task sum_when_ready(Future future, float& out) {
  const std::vector<Tensor> tensors = co_await future;
  // May evaluate and wait itself.
  out = sum(tensors.at(0)).item<float>();
}

TEST(Future, CoAwait) {
  const Tensor x = ones({1000}) * 2.0;
  float out = 0;
  Task task = sum_when_ready(x.eval_async(), out);
  task.done.get();
  EXPECT_EQ(out, 2000.0f);
}

TEST(Future, CoAwaitWhatIsDoneAlready) {
  const Tensor x = ones({10}) * 3.0;
  const Future future = x.eval_async();
  future.wait();
  float out = 0;
  sum_when_ready(future, out).done.get();
  EXPECT_EQ(out, 30.0f);
}

TEST(Future, ManyCoroutinesAtOnce) {
  std::vector<float> out(50, 0);
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const Tensor x = some_work() * 0.0 + static_cast<double>(i);
    tasks.push_back(sum_when_ready(eval_async(std::vector{x}, static_cast<int>(i % 4)), out[i]));
  }
  for (Task& task : tasks) task.done.get();
  for (std::size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(out[i], 20000.0f * static_cast<float>(i));
  }
}

Task rethrow(Future future) { co_await future; }

TEST(KernelError, NamesTheStepEverywhere) {
  METAL_CANDLE_HOST_ONLY("a GPU reads 0 at an index out of range");
  for (const ExecutionMode mode : {ExecutionMode::kSync, ExecutionMode::kAsync}) {
    const ScopedExecutionMode scope(mode);
    SCOPED_TRACE(name(mode));
    EXPECT_THAT(device_error([] { out_of_range().eval(); }), HasSubstr("take"));
    EXPECT_THAT(device_error([] { (void)out_of_range().to_vector<float>(); }), HasSubstr("take"));
    EXPECT_THAT(device_error([] { (void)out_of_range()[0].item<float>(); }), HasSubstr("take"));
    EXPECT_THAT(device_error([] { out_of_range().eval_async().wait(); }), HasSubstr("take"));
    EXPECT_THAT(device_error([] { (void)out_of_range().eval_async().get(); }), HasSubstr("take"));
    EXPECT_THAT(device_error([] { rethrow(out_of_range().eval_async()).done.get(); }),
                HasSubstr("take"));
  }
}

TEST(KernelError, EagerModeThrowsAtTheCall) {
  METAL_CANDLE_HOST_ONLY("a GPU reads 0 at an index out of range");
  const ScopedExecutionMode scope(ExecutionMode::kEager);
  EXPECT_THAT(device_error([] { (void)out_of_range(); }), HasSubstr("take"));
}

TEST(KernelError, StaysWithTheOutput) {
  METAL_CANDLE_HOST_ONLY("a GPU reads 0 at an index out of range");
  const Tensor bad = out_of_range();
  EXPECT_THROW(bad.eval(), DeviceError);
  EXPECT_THROW(bad.eval(), DeviceError);
  EXPECT_THROW((void)bad.to_vector<float>(), DeviceError);
}

TEST(KernelError, ReachesDependentsOnAnyQueue) {
  METAL_CANDLE_HOST_ONLY("a GPU reads 0 at an index out of range");
  for (int queue = 0; queue < 4; ++queue) {
    const Tensor bad = out_of_range();
    const Future first = eval_async(std::vector{bad}, 0);
    const Tensor dependent = bad * 2.0 + 1.0;
    const Future second = eval_async(std::vector{dependent}, queue);
    const Tensor third = sum(dependent);
    EXPECT_THAT(device_error([&] { (void)third.item<float>(); }), HasSubstr("take"));
    EXPECT_THAT(device_error([&] { second.wait(); }), HasSubstr("take"));
    EXPECT_THAT(device_error([&] { first.wait(); }), HasSubstr("take"));
  }
}

TEST(KernelError, LeavesOtherWorkAlone) {
  METAL_CANDLE_HOST_ONLY("a GPU reads 0 at an index out of range");
  std::vector<Future> futures;
  std::vector<Tensor> good;
  for (int i = 0; i < 40; ++i) {
    (void)eval_async(std::vector{out_of_range()}, i % 4);
    good.push_back(ones({8}) * static_cast<double>(i));
    futures.push_back(eval_async(std::vector{good.back()}, i % 4));
  }
  for (std::size_t i = 0; i < good.size(); ++i) {
    EXPECT_NO_THROW(futures[i].wait());
    EXPECT_EQ(good[i].to_vector<float>()[7], static_cast<float>(i));
  }
}

TEST(KernelError, ALaterCommandBufferDoesNotRun) {
  METAL_CANDLE_HOST_ONLY("a GPU reads 0 at an index out of range");
  // More steps than one command buffer holds, the first of which fails.
  Tensor x = sum(out_of_range());
  for (int i = 0; i < 200; ++i) x = cumsum(reshape(x, {1}), 0) + 1.0;
  EXPECT_THAT(device_error([&] { x.eval_async().wait(); }), HasSubstr("take"));
}

}  // namespace
}  // namespace metal_candle
