// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Draws, and whole steps of the sampler, on the GPU in software.
#include "metal_candle/generate/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/backend/gpu/gpu_runner.h"

namespace metal_candle {
namespace {

using testing::HostTensor;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Expects what was drawn to be the position whose part of [0, 1) holds u, or one next to it if
// rounding could decide.
void expect_draw(const HostTensor& x, std::int64_t row, double u, std::int64_t drawn) {
  const std::int64_t n = x.shape().back();
  ASSERT_GE(drawn, 0);
  ASSERT_LT(drawn, n);
  double largest = -kInf, total = 0, before = 0;
  for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, x.r(row * n + i));
  for (std::int64_t i = 0; i < n; ++i) total += std::exp(x.r(row * n + i) - largest);
  for (std::int64_t i = 0; i < drawn; ++i) before += std::exp(x.r(row * n + i) - largest);
  const double weight = std::exp(x.r(row * n + drawn) - largest);
  constexpr double kSlack = 1e-6;
  EXPECT_GT(static_cast<float>(weight), 0) << drawn;
  EXPECT_LE(before / total, u + kSlack) << drawn;
  EXPECT_GE((before + weight) / total, u - kSlack) << drawn;
}

HostTensor drawn(const HostTensor& x, const HostTensor& u) {
  const HostTensor* const inputs[] = {&x, &u};
  const TensorSpec spec{u.shape(), DType::kI32};
  return testing::run_gpu_kernel(op::Draw{}, inputs, {&spec, 1})[0];
}

class GpuDrawTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuDrawTest, RowsOfAnyLength) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  constexpr std::int64_t kRows = 6;
  for (const std::int64_t n : {1, 2, 31, 255, 256, 257, 1025, 5000, 20001}) {
    SCOPED_TRACE(n);
    HostTensor x(Shape{kRows, n}, GetParam()), u(Shape{kRows, 1}, DType::kF32);
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t i = 0; i < n; ++i) {
        const double value =
            i > n / 2 && row > 3 ? -kInf : (static_cast<double>(row) + 0.1) * normal(random);
        x.r(row * n + i) = testing::round_to(value, GetParam());
      }
    }
    for (const double at : {0.0, 0.1, 0.5, 0.77, 0.999, 1 - 0x1p-24}) {
      for (std::int64_t row = 0; row < kRows; ++row) u.r(row) = testing::round_to(at, DType::kF32);
      const HostTensor positions = drawn(x, u);
      for (std::int64_t row = 0; row < kRows; ++row) {
        expect_draw(x, row, u.r(row), positions.n(row));
      }
    }
  }
}

TEST_P(GpuDrawTest, WhatIsCertainIsDrawn) {
  for (const std::int64_t n : {1, 300, 9000}) {
    for (const std::int64_t certain : {std::int64_t{0}, n / 2, n - 1}) {
      HostTensor x(Shape{1, n}, GetParam());
      for (double& value : x.real) value = -kInf;
      x.r(certain) = -50000;
      for (const double u : {0.0, 0.5, 1 - 0x1p-24}) {
        EXPECT_EQ(drawn(x, HostTensor::of(Shape{1, 1}, {u})).n(0), certain) << n;
      }
    }
  }
}

TEST_P(GpuDrawTest, RowsWithoutProbabilitiesGiveMinusOne) {
  for (const std::int64_t n : {4, 9000}) {
    HostTensor x(Shape{4, n}, GetParam()), u(Shape{4, 1}, DType::kF32);
    x.r(n - 1) = kNan;
    x.r(n) = kInf;
    for (std::int64_t i = 0; i < n; ++i) x.r(2 * n + i) = -kInf;
    EXPECT_EQ(drawn(x, u).integer, (std::vector<std::int64_t>{-1, -1, -1, 0})) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuDrawTest,
                         ::testing::Values(DType::kF16, DType::kBF16, DType::kF32),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(GpuDraw, AVocabularyAndManyRows) {
  for (const Shape& shape : {Shape{1, 151936}, Shape{40, 700}}) {
    HostTensor x(shape, DType::kF32), u(Shape{shape[0], 1}, DType::kF32);
    std::mt19937 random(8);
    std::normal_distribution<double> normal(0, 3);
    for (double& value : x.real) value = testing::round_to(normal(random), DType::kF32);
    for (double& value : u.real) value = std::ldexp(static_cast<double>(random() >> 8), -24);
    const HostTensor positions = drawn(x, u);
    for (std::int64_t row = 0; row < shape[0]; ++row) {
      expect_draw(x, row, u.r(row), positions.n(row));
    }
  }
}

SamplingOptions filtered() {
  SamplingOptions options;
  options.temperature = 0.8f;
  options.top_p = 0.95f;
  options.min_p = 0.02f;
  options.seed = 4;
  return options;
}

// Each step: the tokens of both, which are the same unless rounding decides, which it does not
// here.
TEST(GpuSampler, DrawsWhatTheCpuDraws) {
  const Device gpu = gpu_sim::use_sim_backend();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor logits =
        astype(random::normal({2, 9000}, random::key(9, Device::cpu())) * 2.5, dtype).eval();
    SamplingOptions plain;
    plain.temperature = 1;
    for (const SamplingOptions& options : {plain, filtered()}) {
      const Sampler on_cpu(options, 9000, Device::cpu()), on_gpu(options, 9000, gpu);
      Sampler::State cpu_state = on_cpu.start({}, 100), gpu_state = on_gpu.start({}, 100);
      for (int step = 0; step < 5; ++step) {
        EXPECT_EQ(on_gpu.next(logits.to(gpu), gpu_state).to_vector<std::int32_t>(),
                  on_cpu.next(logits, cpu_state).to_vector<std::int32_t>());
      }
    }
  }
}

std::uint64_t grids_of_a_step(const SamplingOptions& options) {
  const Device gpu = gpu_sim::use_sim_backend();
  const Sampler sampler(options, 9000, gpu);
  const Tensor logits =
      astype(random::normal({1, 9000}, random::key(9, Device::cpu())), DType::kBF16).eval().to(gpu);
  Sampler::State state = sampler.start({}, 100);
  const std::uint64_t before = gpu_sim::grids_run();
  sampler.next(logits, state).eval();
  return gpu_sim::grids_run() - before;
}

// What a token costs on a small model is a matter of how many kernels run.
TEST(GpuSampler, AStepIsFewKernels) {
  const std::uint64_t greedy = grids_of_a_step({});
  SamplingOptions plain;
  plain.temperature = 0.8f;
  EXPECT_LE(grids_of_a_step(plain), greedy + 1);
  EXPECT_LE(grids_of_a_step(filtered()), greedy + 6);
}

}  // namespace
}  // namespace metal_candle
