// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The tuner: what it keeps and what it refuses, and that no parameter changes a result.
#include "metal_candle/execute/tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using backend::ShapeClass;
using backend::Tunable;
using backend::Tuning;
using ::testing::HasSubstr;
using testing::message_of;

const Tuning::Key kKey{Tunable::kRowGrain, ShapeClass::of(DType::kF32, {7, 7, 7}, 77)};

// Ten milliseconds slower by itself than with any candidate; wrong with one of them.
TuningJob made_up_job(std::int64_t right, std::int64_t wrong) {
  TuningJob job;
  job.name = "made up";
  job.make = [=] {
    return [=] {
      const std::int64_t value =
          backend::tuning(default_device()).get(kKey.first, kKey.second, /*fallback=*/1);
      if (value != right && value != wrong) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      return full({4}, value == wrong ? 2.0f : 1.0f);
    };
  };
  return job;
}

TEST(Tuner, KeepsWhatIsFasterAndRefusesWhatIsWrong) {
  const auto before = backend::tuning(default_device()).values();
  double last = 0;
  std::size_t calls = 0;
  TuneOptions options;
  options.on_progress = [&](double done, const std::string& text) {
    EXPECT_GE(done, last);
    EXPECT_THAT(text, HasSubstr("made up: row grain"));
    last = done;
    ++calls;
  };
  const TuningReport report = tune(default_device(), {made_up_job(65536, 16384)}, options);
  const std::size_t candidates = backend::info_of(Tunable::kRowGrain).candidates.size();
  EXPECT_EQ(calls, candidates);
  ASSERT_EQ(report.outcomes.size(), 1u);
  EXPECT_EQ(report.outcomes[0].tried, candidates);
  EXPECT_EQ(report.outcomes[0].wrong, 1u);
  ASSERT_EQ(report.gains.size(), 1u);
  EXPECT_EQ(report.gains[0].key, kKey);
  EXPECT_EQ(report.gains[0].fallback, 1);
  EXPECT_EQ(report.gains[0].value, 65536);
  EXPECT_EQ(report.values.get(kKey.first, kKey.second, 0), 65536);
  EXPECT_EQ(backend::tuning(default_device()).values(), before);
}

TEST(Tuner, StopsWhenTimeIsUp) {
  const std::vector<TuningJob> jobs(50, made_up_job(65536, 16384));
  const TuningReport report = tune(default_device(), jobs, {.budget_seconds = 0.05});
  EXPECT_GT(report.unfinished, 0u);
  EXPECT_EQ(report.unfinished + report.outcomes.size(), jobs.size());
}

TEST(Tuner, PlansAreThoseOfTheTuning) {
  const Tensor x = ones({16}).eval();
  const auto plans = [&] {
    reset_counters();
    (cumsum(x * 3.0f, 0)).eval();
    return counters().plans_made;
  };
  static_cast<void>(plans());
  EXPECT_EQ(plans(), 0u);
  const auto values = backend::tuning(default_device()).values();
  auto tuning = std::make_unique<Tuning>();
  tuning->set(kKey.first, kKey.second, 4096);
  backend::install_tuning(default_device(), std::move(tuning));
  EXPECT_EQ(plans(), 1u);
  EXPECT_EQ(plans(), 0u);
  auto old = std::make_unique<Tuning>();
  for (const auto& [key, value] : values) old->set(key.first, key.second, value);
  backend::install_tuning(default_device(), std::move(old));
}

// Every candidate of every parameter that a job asks for, against a sum of products in double.
TEST(Tuner, NoCandidateChangesAProduct) {
  const Tensor a = random::normal({70, 130}, random::key(1)).eval();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const std::int64_t m : {1, 5, 70}) {
      const Tensor x = astype(slice(a, {0, 0}, {m, 130}), dtype).eval();
      const Tensor w = random::normal({130, 600}, random::key(2), dtype).eval();
      const auto xs = astype(x, DType::kF32).to_vector<float>();
      const auto ws = astype(w, DType::kF32).to_vector<float>();
      std::vector<double> expected(static_cast<std::size_t>(m * 600));
      for (std::size_t i = 0; i < static_cast<std::size_t>(m); ++i) {
        for (std::size_t k = 0; k < 130; ++k) {
          for (std::size_t j = 0; j < 600; ++j) {
            expected[i * 600 + j] +=
                static_cast<double>(xs[i * 130 + k]) * static_cast<double>(ws[k * 600 + j]);
          }
        }
      }
      const ShapeClass shape = ShapeClass::of(dtype, {m, 600, 130}, 0);
      for (const Tunable tunable : {Tunable::kProductMethod, Tunable::kProductRows,
                                    Tunable::kProductColumns, Tunable::kProductSplits}) {
        for (const std::int64_t value : backend::info_of(tunable).candidates) {
          auto tuning = std::make_unique<Tuning>();
          tuning->set(tunable, shape, value);
          backend::install_tuning(default_device(), std::move(tuning));
          const auto result = astype(matmul(x, w), DType::kF32).to_vector<float>();
          const double allowed = dtype == DType::kF32 ? 1e-4 : 0.3;
          for (std::size_t i = 0; i < expected.size(); ++i) {
            ASSERT_NEAR(result[i], expected[i], allowed)
                << name(dtype) << " m " << m << " " << backend::info_of(tunable).name << " "
                << value;
          }
        }
      }
    }
  }
  backend::install_tuning(default_device(), std::make_unique<Tuning>());
}

TEST(Tuner, NoCandidateIsWrongForWhatIsTuned) {
  for (const char* name :
       {"matmul 3 192 80 f32", "matmul_t 33 192 80 bf16", "softmax 9 1000 f32",
        "rms_norm 9 1000 bf16", "layer_norm 9 1000 f32", "elementwise 9 1000 f32", "sum 9 1000 f32",
        "attention 1 2 1 300 16 f32", "steps 40"}) {
    const TuningReport report =
        tune(default_device(), {parse_tuning_job(name, default_device())}, {.budget_seconds = 20});
    ASSERT_EQ(report.outcomes.size(), 1u);
    EXPECT_EQ(report.outcomes[0].wrong, 0u) << name;
    EXPECT_EQ(report.unfinished, 0u);
  }
}

TEST(TuningJobs, WhatIsNoJobIsSaid) {
  for (const char* bad : {"", "conv 1 2", "matmul 1 2", "matmul 1 2 3 4", "matmul 1 x 3",
                          "softmax 4 4 f99", "softmax 0 4", "matmul 1 2 3 i32", "softmax 4 -1"}) {
    EXPECT_THAT(message_of<FormatError>([&] { (void)parse_tuning_job(bad, Device::cpu()); }),
                HasSubstr("tune: '"))
        << bad;
  }
  EXPECT_THROW((void)default_tuning_jobs(Device::cpu(), "conv"), FormatError);
  EXPECT_GT(default_tuning_jobs(Device::cpu()).size(), 40u);
  for (const TuningJob& job : default_tuning_jobs(Device::cpu(), "sum")) {
    EXPECT_THAT(job.name, ::testing::StartsWith("sum "));
  }
}

TEST(TuningJobs, ComeFromATrace) {
  const std::string trace = R"({"traceEvents": [
    {"name": "linear", "cat": "step", "dur": 5,
     "args": {"shapes": "bf16[1, 16, 704], bf16[704, 256], bf16[256] -> bf16[1, 16, 256]"}},
    {"name": "matmul", "cat": "step", "dur": 20,
     "args": {"shapes": "f32[2, 32], f32[32, 64] -> f32[2, 64]"}},
    {"name": "linear", "cat": "step", "dur": 30,
     "args": {"shapes": "bf16[1, 16, 704], bf16[704, 256], bf16[256] -> bf16[1, 16, 256]"}},
    {"name": "softmax", "cat": "step", "dur": 1, "args": {"shapes": "f32[4, 8] -> f32[4, 8]"}},
    {"name": "attention", "cat": "step", "dur": 2, "args": {"shapes":
      "bf16[1, 4, 1, 64], bf16[1, 2, 256, 64], bf16[1, 2, 256, 64], i32[] -> bf16[1, 4, 1, 64], f32[1, 4, 1]"}},
    {"name": "take", "cat": "step", "dur": 9, "args": {"shapes": "f32[4, 8], i32[] -> f32[8]"}},
    {"name": "matmul", "cat": "step", "dur": 9,
     "args": {"shapes": "f32[0, 32], f32[32, 64] -> f32[0, 64]"}},
    {"name": "find plan", "cat": "host", "dur": 100}]})";
  std::vector<std::string> names;
  for (const TuningJob& job : tuning_jobs_of_trace(trace, "t.json", Device::cpu())) {
    names.push_back(job.name);
  }
  EXPECT_THAT(names, ::testing::ElementsAre("matmul 16 256 704 bf16", "matmul_t 16 256 704 bf16",
                                            "matmul 2 64 32 f32", "matmul_t 2 64 32 f32",
                                            "attention 1 4 1 256 64 bf16", "softmax 4 8 f32"));
  EXPECT_EQ(tuning_jobs_of_trace(trace, "t.json", Device::cpu(), 2).size(), 2u);
  for (const char* bad : {"", "{", "{}", R"({"traceEvents": []})",
                          R"({"traceEvents": [{"cat": "step", "name": 5}]})"}) {
    EXPECT_THAT(
        message_of<FormatError>([&] { (void)tuning_jobs_of_trace(bad, "t.json", Device::cpu()); }),
        HasSubstr("t.json"));
  }
}

}  // namespace
}  // namespace metal_candle
