// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Queues of the CPU: bounded, in order, after what they depend on, with buffers from a pool.
#include "metal_candle/backend/cpu/cpu_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

class CpuQueueTest : public ::testing::Test {
 protected:
  /// Commits a buffer that does nothing but depend on `dependencies`.
  CompletionPtr commit(CpuQueue& queue, std::vector<CompletionPtr> dependencies = {}) {
    auto done = make_intrusive<Completion>(&queue);
    queue.commit(queue.make_command_buffer(), dependencies,
                 [done](std::exception_ptr error) { done->complete(std::move(error)); });
    return done;
  }

  CommandBufferPool pool_;
  CompletionPtr gate_ = make_intrusive<Completion>();
};

TEST_F(CpuQueueTest, CommitsWaitWhileManyAreUnfinished) {
  CpuQueue queue(0, pool_);
  std::vector<CompletionPtr> committed{commit(queue, {gate_})};
  while (committed.size() < CpuQueue::kMaxPending) committed.push_back(commit(queue));
  EXPECT_EQ(pool_.statistics().full_waits, 0u);
  auto one_more = std::async(std::launch::async, [&] { return commit(queue); });
  EXPECT_EQ(one_more.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  for (const CompletionPtr& completion : committed) EXPECT_FALSE(completion->ready());
  gate_->complete(nullptr);
  one_more.get()->wait();
  for (const CompletionPtr& completion : committed) EXPECT_TRUE(completion->ready());
  EXPECT_EQ(pool_.statistics().full_waits, 1u);
  queue.synchronize();
  EXPECT_TRUE(queue.idle());
}

TEST_F(CpuQueueTest, BuffersComeFromThePool) {
  CpuQueue queue(0, pool_);
  for (int i = 0; i < 10; ++i) {
    commit(queue)->wait();
    queue.synchronize();
  }
  const QueueStatistics statistics = pool_.statistics();
  EXPECT_EQ(statistics.command_buffers, 10u);
  EXPECT_EQ(statistics.buffers_made, 1u);
  EXPECT_EQ(statistics.buffers_reused, 9u);
}

TEST_F(CpuQueueTest, OneQueueWaitsForAnotherAndFailsWithIt) {
  CpuQueue first(0, pool_), second(1, pool_), third(2, pool_);
  const CompletionPtr a = commit(first, {gate_});
  const CompletionPtr b = commit(second, {a});
  const CompletionPtr free = commit(third);
  free->wait();  // Nothing holds it up.
  EXPECT_FALSE(a->ready());
  EXPECT_FALSE(b->ready());
  gate_->complete(std::make_exception_ptr(DeviceError("no device")));
  EXPECT_THROW(b->wait(), DeviceError);
  EXPECT_THROW(a->wait(), DeviceError);
  commit(first)->wait();  // A failure is not the queue's.
}

TEST_F(CpuQueueTest, StoppingFailsWhatHasNotBegun) {
  CpuQueue queue(0, pool_);
  const CompletionPtr waiting = commit(queue, {gate_});
  const CompletionPtr behind = commit(queue);
  auto stopping = std::async(std::launch::async, [&] { queue.stop(); });
  // Work that has been taken off the queue is finished, so it needs what it waits for.
  EXPECT_THROW(behind->wait(), DeviceError);
  gate_->complete(nullptr);
  stopping.get();
  EXPECT_TRUE(waiting->ready());
  EXPECT_THROW(static_cast<void>(commit(queue)), DeviceError);
}

}  // namespace
}  // namespace metal_candle::backend::cpu
