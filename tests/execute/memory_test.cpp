// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The memory limit, and memory that runs out at every place where it can.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "metal_candle/backend/cpu/cpu_backend.h"
#include "metal_candle/backend/pool_allocator.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/host_only.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;

backend::PoolAllocator& allocator() { return backend::cpu::cpu_backend_instance().allocator(); }

/// Sets the limit to what is in use and so many bytes more, for a scope.
class ScopedLimit {
 public:
  explicit ScopedLimit(std::size_t more) : saved_(memory_use().limit) {
    synchronize();
    set_memory_limit(memory_use().in_use + more);
  }
  ~ScopedLimit() { set_memory_limit(saved_); }
  ScopedLimit(const ScopedLimit&) = delete;
  ScopedLimit& operator=(const ScopedLimit&) = delete;

 private:
  std::size_t saved_;
};

constexpr std::int64_t kMany = 1 << 20;  // 4 MiB of f32.

TEST(MemoryLimit, ExceedingItNamesTheStepAndTheBytes) {
  const Tensor x = ones({kMany}).eval();
  const Tensor y = cumsum(x, 0);
  {
    const ScopedLimit limit(1 << 20);
    try {
      y.eval();
      FAIL() << "nothing was thrown";
    } catch (const OutOfMemoryError& error) {
      EXPECT_THAT(error.what(), HasSubstr("cumulative_sum"));
      EXPECT_THAT(error.what(), HasSubstr(std::to_string(4 * kMany)));
    }
    // The process goes on, with what fits.
    EXPECT_EQ((ones({10}) + 1.0).to_vector<float>()[9], 2.0f);
    EXPECT_THROW(y.eval(), OutOfMemoryError);
    EXPECT_THROW((void)y.eval_async(), OutOfMemoryError);
  }
  EXPECT_EQ(y.to_vector<float>()[kMany - 1], static_cast<float>(kMany));
}

TEST(MemoryLimit, WithoutOneTheDeviceRunsOutAndTheProcessGoesOn) {
  if (default_device().type != DeviceType::kCuda) {
    GTEST_SKIP() << "host memory that runs out ends processes";
  }
  synchronize();
  const std::size_t saved = memory_use().limit;
  set_memory_limit(std::size_t{1} << 46);
  std::vector<Tensor> held;
  try {
    for (int i = 0; i < 1000; ++i) held.push_back(full({std::int64_t{1} << 30}, 1.0f).eval());
    ADD_FAILURE() << "a device of 4,000 GB?";
  } catch (const OutOfMemoryError& error) {
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(std::size_t{4} << 30)));
  }
  EXPECT_GT(held.size(), 0u);
  // While nearly all is taken, and after it was given back.
  EXPECT_EQ((ones({10}) + 1.0).to_vector<float>()[9], 2.0f);
  held.clear();
  clear_memory_cache();
  EXPECT_EQ(sum(full({std::int64_t{1} << 28}, 1.0f)).item<float>(), static_cast<float>(1 << 28));
  set_memory_limit(saved);
}

TEST(MemoryLimit, MakingALeafObeysIt) {
  const std::vector<float> data(kMany, 1.0f);
  const ScopedLimit limit(1 << 20);
  EXPECT_THROW(Tensor(data, {kMany}), OutOfMemoryError);
}

TEST(MemoryLimit, EagerModeObeysIt) {
  const ScopedExecutionMode mode(ExecutionMode::kEager);
  const Tensor x = ones({kMany});
  const ScopedLimit limit(1 << 20);
  EXPECT_THROW((void)(x + 1.0), OutOfMemoryError);
}

TEST(MemoryLimit, FreedMemoryCountsNoMore) {
  const ScopedLimit limit(6 << 20);
  for (int i = 0; i < 20; ++i) {
    const Tensor x = full({kMany}, static_cast<float>(i));
    EXPECT_EQ(x.eval().slice({{5, 6}}).item<float>(), static_cast<float>(i));
  }
}

TEST(MemoryLimit, PlansSayWhatTheyNeed) {
  const Tensor x = ones({kMany}).eval();
  const Tensor y = sum(cumsum(x, 0) * 2.0);
  const EvaluationPlan plan = plan_evaluation({y});
  EXPECT_GE(plan.peak_bytes, 4u * kMany);
  EXPECT_LT(plan.output_bytes, 128u);
  EXPECT_FALSE(plan.peak_step.empty());
  synchronize();
  reset_peak_memory();
  const std::size_t before = memory_use().in_use;
  y.eval();
  synchronize();
  const std::size_t used = memory_use().peak - before;
  // The pool rounds blocks up by at most an eighth.
  EXPECT_LE(used, plan.peak_bytes + plan.peak_bytes / 8 + 4096);
  EXPECT_GE(used, plan.peak_bytes);
}

TEST(Pool, RoundsSmallBlocksByAnEighthAndLargeOnesByLess) {
  using backend::PoolAllocator;
  for (const std::size_t around :
       {std::size_t{100}, std::size_t{5000}, std::size_t{64} << 20, std::size_t{11} << 30}) {
    for (const std::size_t bytes : {around - 1, around, around + 1, around + around / 3}) {
      const std::size_t block = PoolAllocator::block_size(bytes);
      EXPECT_GE(block, bytes);
      const std::size_t share = bytes >= std::size_t{64} << 20 ? 64 : 8;
      EXPECT_LE(block, bytes + std::max<std::size_t>(bytes / share, 64));
      EXPECT_EQ(PoolAllocator::block_size(block), block);
    }
  }
}

// Something with intermediates of 8 MiB and a result of one element.
Tensor with_intermediates(const Tensor& x) { return sum(cumsum(cumsum(x, 0), 0)); }

TEST(QueuedMemory, RunsOfOneThreadShareIntermediates) {
  const Tensor x = ones({kMany}).eval();
  const std::size_t intermediates = plan_evaluation({with_intermediates(x)}).peak_bytes;
  EXPECT_GE(intermediates, std::size_t{4} * kMany);
  synchronize();
  const std::size_t before = memory_use().in_use;
  reset_peak_memory();
  std::vector<Tensor> results;
  for (int i = 0; i < 10; ++i) {
    results.push_back(with_intermediates(x));
    (void)results.back().eval_async();
  }
  const float expected = results[0].item<float>();
  for (const Tensor& result : results) EXPECT_EQ(result.item<float>(), expected);
  EXPECT_LE(memory_use().peak, before + intermediates * 9 / 8 + 4096);
}

TEST(QueuedMemory, IsFreeOnceTheResultIsThere) {
  const Tensor x = ones({kMany}).eval();
  for (int i = 0; i < 50; ++i) {
    const std::size_t before = memory_use().in_use;
    const Tensor y = with_intermediates(x);
    (void)y.eval_async();
    (void)y.item<float>();
    EXPECT_LE(memory_use().in_use, before + 4096);
  }
}

TEST(QueuedMemory, RunsOfTwoThreadsDoNotDisturbEachOther) {
  // Several command buffers each, which alternate on the queue.
  const auto chain = [](Tensor x) {
    for (int i = 0; i < 100; ++i) x = cumsum(x, 0) * 0.5;
    return sum(x);
  };
  const auto run = [&](float start, std::vector<float>& results) {
    std::vector<Tensor> queued;
    for (int i = 0; i < 20; ++i) {
      queued.push_back(chain(Tensor({start, start, start, start})));
      (void)queued.back().eval_async();
    }
    for (const Tensor& tensor : queued) results.push_back(tensor.item<float>());
  };
  std::vector<float> ours, theirs;
  std::thread other([&] { run(2, theirs); });
  run(1, ours);
  other.join();
  EXPECT_EQ(ours, std::vector<float>(20, chain(Tensor({1.0f, 1.0f, 1.0f, 1.0f})).item<float>()));
  EXPECT_EQ(theirs, std::vector<float>(20, chain(Tensor({2.0f, 2.0f, 2.0f, 2.0f})).item<float>()));
}

TEST(MemoryLimit, EverythingIsGivenBack) {
  synchronize();
  const std::size_t before = memory_use().in_use;
  {
    Tensor x = ones({1000});
    for (int i = 0; i < 50; ++i) x = cumsum(x * 0.5, 0) * 0.01;
    (void)eval_async({x, sum(x)});
  }
  synchronize();
  EXPECT_EQ(memory_use().in_use, before);
}

struct Evaluation {
  const char* name;
  std::function<std::vector<Tensor>()> build;
};

std::vector<Evaluation> evaluations() {
  const Tensor x = arange(0.0f, 4096.0f).eval();
  const Tensor m = reshape(x, {64, 64}).eval();
  return {
      {"one output", [x] { return std::vector{x + 1.0}; }},
      {"intermediates", [x] { return std::vector{sum(cumsum(x, 0) * 2.0)}; }},
      {"several outputs",
       [x] {
         return std::vector{x * 2.0, cumsum(x, 0), max(x)};
       }},
      {"matrix products and views",
       [m] {
         return std::vector{matmul(transpose(m), m) * 1e-3, softmax(matmul(m, m) * 1e-6, -1)};
       }},
      {"parts on several queues",
       [] {
         const Tensor a = ones({600, 600}), b = ones({500, 700});
         return std::vector{cumsum(a, 0) * 2.0, cumsum(b, 1) + 1.0, sum(a * 3.0)};
       }},
      {"an update",
       [x] {
         return std::vector{slice_update(x, x.slice({{0, 7}}), {9})};
       }},
  };
}

std::vector<std::vector<float>> read(const std::vector<Tensor>& tensors) {
  std::vector<std::vector<float>> values;
  for (const Tensor& tensor : tensors) values.push_back(tensor.to_vector<float>());
  return values;
}

class AllocationFailure : public ::testing::TestWithParam<ExecutionMode> {};

TEST_P(AllocationFailure, AtEveryAllocationTheEvaluationCanBeRepeated) {
  METAL_CANDLE_HOST_ONLY("fails the CPU's allocator");
  for (const Evaluation& evaluation : evaluations()) {
    SCOPED_TRACE(evaluation.name);
    const auto expected = read(evaluation.build());
    const ScopedExecutionMode mode(GetParam());
    bool failed = true;
    int allowed = 0;
    for (; failed && allowed < 100; ++allowed) {
      const std::vector<Tensor> outputs = evaluation.build();
      synchronize();
      const std::size_t before = memory_use().in_use;
      allocator().fail_after(allowed);
      failed = false;
      try {
        eval_async(outputs, allowed % 2).wait();
      } catch (const OutOfMemoryError& error) {
        failed = true;
        EXPECT_THAT(error.what(), HasSubstr("bytes"));
      }
      allocator().fail_after(-1);
      if (failed) {
        synchronize();
        EXPECT_EQ(memory_use().in_use, before) << "memory was lost at allocation " << allowed;
      }
      EXPECT_EQ(read(outputs), expected) << "after a failure of allocation " << allowed;
    }
    EXPECT_FALSE(failed);
    EXPECT_GE(allowed, 2) << "nothing was allocated";
  }
}

INSTANTIATE_TEST_SUITE_P(Lazy, AllocationFailure,
                         ::testing::Values(ExecutionMode::kSync, ExecutionMode::kAsync),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(AllocationFailureEager, IsThrownAtTheCallAndTheCallCanBeRepeated) {
  METAL_CANDLE_HOST_ONLY("fails the CPU's allocator");
  const Tensor x = arange(0.0f, 4096.0f).eval();
  const ScopedExecutionMode mode(ExecutionMode::kEager);
  const auto compute = [&] { return sum(cumsum(x + 1.0, 0) * 2.0).item<float>(); };
  const float expected = compute();
  bool failed = true;
  for (int allowed = 0; failed && allowed < 100; ++allowed) {
    allocator().fail_after(allowed);
    failed = false;
    try {
      (void)compute();
    } catch (const OutOfMemoryError&) {
      failed = true;
    }
    allocator().fail_after(-1);
    EXPECT_EQ(compute(), expected);
  }
  EXPECT_FALSE(failed);
}

}  // namespace
}  // namespace metal_candle
