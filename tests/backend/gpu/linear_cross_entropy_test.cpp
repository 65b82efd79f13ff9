// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Linear cross entropy on the GPU in software.
#include <gtest/gtest.h>

#include <random>

#include "tests/backend/gpu/gpu_runner.h"

namespace metal_candle::testing {
namespace {

struct Case {
  HostTensor x, weight, targets, dloss;
};

Case make_case(std::int64_t rows, std::int64_t width, std::int64_t classes, DType dtype,
               DType target_dtype) {
  std::mt19937 engine(7);
  std::normal_distribution<double> normal;
  const auto fill = [&](HostTensor& host, double scale) {
    for (std::int64_t i = 0; i < host.size(); ++i) {
      host.r(i) = round_to(scale * normal(engine), host.dtype());
    }
  };
  Case c{HostTensor({rows, width}, dtype), HostTensor({width, classes}, dtype),
         HostTensor({rows}, target_dtype), HostTensor({rows}, DType::kF32)};
  fill(c.x, 1);
  fill(c.weight, 0.5);
  fill(c.dloss, 1);
  for (std::int64_t i = 0; i < rows; ++i) {
    c.targets.n(i) = static_cast<std::int64_t>(engine() % static_cast<unsigned>(classes));
  }
  if (rows > 1) c.targets.n(1) = -100;
  return c;
}

Tolerance tolerance_of(DType dtype) {
  return dtype == DType::kF32 ? Tolerance{1e-5, 1e-5} : Tolerance{3e-2, 3e-2};
}

TEST(GpuLinearCrossEntropyTest, ForwardAndBackwardAgreeWithTheReference) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const auto& [rows, width, classes] : {std::array<std::int64_t, 3>{5, 6, 37},
                                               {1, 3, 4},
                                               {3, 8, 2051},
                                               {3, 4, 3},
                                               {2, 4, 20003}}) {
      const Case c = make_case(rows, width, classes, dtype, rows == 5 ? DType::kI64 : DType::kI32);
      const HostTensor* const forward[] = {&c.x, &c.weight, &c.targets};
      expect_gpu_matches(op::LinearCrossEntropy{-100}, forward, {}, tolerance_of(dtype));
      const HostTensor logsumexp =
          interpret_operation(op::LinearCrossEntropy{-100}, forward, {{rows}, DType::kF32})[1];
      const HostTensor* const backward[] = {&c.x, &c.weight, &c.targets, &logsumexp, &c.dloss};
      expect_gpu_matches(op::LinearCrossEntropyBackward{-100}, backward, {}, tolerance_of(dtype));
    }
  }
}

TEST(GpuLinearCrossEntropyTest, OutputsThatNobodyReadsAreNotMade) {
  const Case c = make_case(4, 3, 9, DType::kF32, DType::kI32);
  const HostTensor* const inputs[] = {&c.x, &c.weight, &c.targets};
  const TensorSpec specs[] = {{{4}, DType::kF32}, {{4}, DType::kF32}, {{4, 3}, DType::kF32}};
  const auto expected = interpret_operation(op::LinearCrossEntropy{-100}, inputs, specs[0]);
  const auto actual = run_gpu_kernel(op::LinearCrossEntropy{-100}, inputs, specs, {1, 0, 0});
  EXPECT_TRUE(all_close(actual[0], expected[0], {1e-5, 1e-5}));
}

TEST(GpuLinearCrossEntropyTest, ATargetThatIsNoClassGivesNaN) {
  Case c = make_case(2, 3, 9, DType::kF32, DType::kI32);
  c.targets.n(0) = 9;
  const HostTensor* const inputs[] = {&c.x, &c.weight, &c.targets};
  const TensorSpec specs[] = {{{2}, DType::kF32}, {{2}, DType::kF32}, {{2, 3}, DType::kF32}};
  const auto actual = run_gpu_kernel(op::LinearCrossEntropy{-100}, inputs, specs);
  EXPECT_TRUE(std::isnan(actual[0].r(0)));
  EXPECT_TRUE(std::isnan(actual[2].r(0)));
  EXPECT_EQ(actual[0].r(1), 0);
}

}  // namespace
}  // namespace metal_candle::testing
