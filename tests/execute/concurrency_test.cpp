// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Many threads that build and evaluate on shared tensors. Meant to be run under ThreadSanitizer
// too.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cmath>
#include <functional>
#include <thread>
#include <vector>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle {
namespace {

constexpr int kThreads = 6;

/// Runs fn(thread) on several threads that begin together.
void on_threads(const std::function<void(int)>& fn, int count = kThreads) {
  std::barrier start(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      fn(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

Tensor ramp(std::int64_t count) { return arange(0.0f, static_cast<float>(count)).eval(); }

/// A sum that is 0 + ... + (n - 1), through enough steps to take a while.
Tensor slow_sum(const Tensor& x) {
  Tensor y = x;
  for (int i = 0; i < 20; ++i) y = cumsum(flip(y * 0.5, 0), 0) * 0.0 + y * 1.0;
  return sum(y);
}

TEST(Concurrency, ThreadsShareLeavesAndPendingNodes) {
  const Tensor x = ramp(1000);
  const Tensor pending = sqrt(x) + 1.0;
  const float expected_root = std::sqrt(999.0f) + 1;
  std::atomic<int> wrong{0};
  on_threads([&](int thread) {
    for (int i = 0; i < 60; ++i) {
      const Tensor mine = pending * static_cast<double>(thread + 1) + x;
      const std::vector<float> values = mine.to_vector<float>();
      const float expected = expected_root * static_cast<float>(thread + 1) + 999;
      if (std::abs(values[999] - expected) > 1e-3f * expected) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Concurrency, OneNodeIsComputedOnce) {
  for (int round = 0; round < 20; ++round) {
    const Tensor y = slow_sum(ramp(2000));
    reset_counters();
    std::atomic<int> wrong{0};
    on_threads([&](int) {
      if (y.item<float>() != 1999000.0f) ++wrong;
    });
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(counters().evaluations, 1u);
  }
}

TEST(Concurrency, TheSameSetsOfOutputsInOtherOrders) {
  for (int round = 0; round < 20; ++round) {
    const Tensor x = ramp(100);
    const Tensor a = x + 1.0, b = a * 2.0, c = b - x;
    std::atomic<int> wrong{0};
    on_threads([&](int thread) {
      std::vector<Tensor> outputs{a, b, c};
      if (thread % 2 == 1) std::swap(outputs[0], outputs[2]);
      if (thread % 3 == 1) std::swap(outputs[1], outputs[2]);
      eval(outputs);
      if (c.to_vector<float>()[99] != 101.0f || b.to_vector<float>()[0] != 2.0f) ++wrong;
    });
    EXPECT_EQ(wrong, 0);
  }
}

TEST(Concurrency, OneThreadTracesWhatAnotherEvaluates) {
  for (int round = 0; round < 40; ++round) {
    const Tensor x = ramp(64);
    Tensor chain = x;
    std::vector<Tensor> stages;
    for (int i = 0; i < 30; ++i) stages.push_back(chain = chain + 1.0);
    std::atomic<int> wrong{0};
    on_threads([&](int thread) {
      // Different ends of one chain, and branches off it.
      const auto at = static_cast<std::size_t>((thread * 7 + 3) % 30);
      const Tensor branch = stages[at] * 2.0;
      if (thread % 2 == 0) stages[29 - at].eval();
      if (branch.to_vector<float>()[0] != 2.0f * static_cast<float>(at + 1)) ++wrong;
      if (stages[29 - at].to_vector<float>()[1] != static_cast<float>(31 - at)) ++wrong;
    });
    EXPECT_EQ(wrong, 0);
  }
}

TEST(Concurrency, ModesAndPassesAreOfAThread) {
  const Tensor x = ramp(300);
  const Tensor shared = x * 2.0 + 1.0;
  std::atomic<int> wrong{0};
  on_threads([&](int thread) {
    constexpr ExecutionMode kModes[] = {ExecutionMode::kEager, ExecutionMode::kSync,
                                        ExecutionMode::kAsync};
    const ExecutionMode mode = kModes[thread % 3];
    const ScopedExecutionMode scope(mode);
    const ScopedPasses passes(thread % 2 == 0 ? PassSet::all() : PassSet::none());
    for (int i = 0; i < 40; ++i) {
      const Tensor y = softmax(shared * 0.001, -1) * 300.0 + shared;
      if (execution_mode() != mode) ++wrong;
      if (mode == ExecutionMode::kEager && !y.is_evaluated()) ++wrong;
      const std::vector<float> values = y.to_vector<float>();
      if (values[299] < values[0] || values[0] < 1) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Concurrency, QueuesDependOnEachOther) {
  on_threads(
      [&](int thread) {
        Tensor x = zeros({257}).eval();
        Tensor other = ones({257}).eval();
        for (int i = 0; i < 100; ++i) {
          x = x + other;
          (void)eval_async({x}, (i + thread) % 4);
          if (i % 10 == 9) other = other * 1.0 + x * 0.0;
        }
        const std::vector<float> values = x.to_vector<float>();
        EXPECT_EQ(values.front(), 100.0f);
        EXPECT_EQ(values.back(), 100.0f);
      },
      4);
}

TEST(Concurrency, FuturesAndHandlesDroppedInFlight) {
  const Tensor x = ramp(5000);
  on_threads([&](int thread) {
    for (int i = 0; i < 50; ++i) {
      Tensor y = exp(x * -0.001) + static_cast<double>(i);
      Future future = eval_async({y, sum(y)}, thread % 4);
      if (i % 3 == 0) y = Tensor();
      if (i % 2 == 0) future = Future();
    }
  });
  synchronize();
  EXPECT_EQ(x.to_vector<float>()[4999], 4999.0f);
}

TEST(Concurrency, UpdatesInPlaceNeverReachAnothersValues) {
  // Every thread takes the same tensor and updates its own copy, in place from the second step on.
  const Tensor origin = ramp(512);
  std::atomic<int> wrong{0};
  on_threads([&](int thread) {
    for (int round = 0; round < 10; ++round) {
      Tensor mine = origin;
      for (int i = 0; i < 10; ++i) {
        mine = mine + static_cast<double>(thread);
        if (i % 2 == 0) {
          mine.eval();
        } else {
          (void)mine.eval_async();
        }
      }
      if (mine.to_vector<float>()[511] != 511.0f + 10.0f * static_cast<float>(thread)) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(origin.to_vector<float>()[511], 511.0f);
}

TEST(Concurrency, HandlesHandedFromThreadToThread) {
  std::vector<Tensor> baton(static_cast<std::size_t>(kThreads));
  Tensor x = ramp(100);
  for (int round = 0; round < 20; ++round) {
    for (Tensor& slot : baton) slot = x;
    on_threads([&](int thread) {
      Tensor& slot = baton[static_cast<std::size_t>(thread)];
      slot = slot * 1.0 + 1.0;
      if (thread % 2 == 0) slot.eval();
    });
    Tensor total = zeros({100});
    for (const Tensor& slot : baton) total = total + slot;
    x = total / static_cast<double>(kThreads);
  }
  EXPECT_EQ(x.to_vector<float>()[0], 20.0f);
}

TEST(Concurrency, GradientsOnManyThreads) {
  const Tensor w = ramp(64) * 0.01;
  std::atomic<int> wrong{0};
  on_threads([&](int thread) {
    const auto loss = [&](const Tensor& p) {
      const Tensor y = p * static_cast<double>(thread + 1) + w;
      if (thread % 2 == 0) y.eval();
      return sum(square(y));
    };
    for (int i = 0; i < 20; ++i) {
      const auto [value, gradient] = value_and_grad(loss)(ones({64}));
      const float expected = 2 * static_cast<float>(thread + 1) * static_cast<float>(thread + 1);
      if (std::abs(gradient.to_vector<float>()[0] - expected) > 1e-4f) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Concurrency, PlansAreMadeAndFoundByAllThreads) {
  on_threads([&](int) {
    for (int i = 0; i < 30; ++i) {
      Tensor x = ones({4});
      for (int k = 0; k < i; ++k) x = x + 1.0;
      if (x.to_vector<float>()[3] != static_cast<float>(i + 1)) ADD_FAILURE() << i;
    }
  });
}

}  // namespace
}  // namespace metal_candle
