// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The tuner on the GPU in software: every candidate of the parameters that GPU kernels have gives
// what the defaults give.
#include "metal_candle/execute/tuner.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/gpu_sim/sim_backend.h"

namespace metal_candle::testing {
namespace {

using backend::Tunable;

TEST(GpuTuner, NoCandidateIsWrong) {
  const Device device = gpu_sim::use_sim_backend();
  struct Job {
    const char* name;
    Tunable tunable;
  };
  for (const Job& job : {Job{"softmax 3 1000 f32", Tunable::kGpuRowThreads},
                         Job{"rms_norm 20 2048 bf16", Tunable::kGpuRowThreads},
                         Job{"layer_norm 2 512 f32", Tunable::kGpuRowThreads},
                         Job{"softmax 2 20000 f32", Tunable::kGpuChunkGroups},
                         Job{"sum 2 20000 f32", Tunable::kGpuReduceGroups},
                         Job{"attention 1 2 2 300 16 f32", Tunable::kGpuAttentionGroups}}) {
    const TuningReport report = tune(device, {parse_tuning_job(job.name, device)},
                                     {.budget_seconds = 60, .least_gain = 0.9, .on_progress = {}});
    ASSERT_EQ(report.outcomes.size(), 1u);
    // All but the default, which may be one of them.
    EXPECT_GE(report.outcomes[0].tried, backend::info_of(job.tunable).candidates.size() - 1)
        << job.name;
    EXPECT_EQ(report.outcomes[0].wrong, 0u) << job.name;
  }
}

}  // namespace
}  // namespace metal_candle::testing
