// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Running reductions on the GPU in software.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void check(const Shape& shape, int axis, DType dtype,
           Placement placement = Placement::kContiguous) {
  SCOPED_TRACE(to_string(shape) + std::to_string(axis));
  HostTensor x = random_operand(shape, dtype, 3, is_integer(dtype) ? 20 : 1);
  const double length = std::sqrt(static_cast<double>(shape[axis]) + 1);
  for (const ReduceKind kind :
       {ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kMax, ReduceKind::kMin}) {
    if (kind == ReduceKind::kProd) {  // Near 1.
      for (double& value : x.real) value = round_to(std::exp(value / (4 * length)), dtype);
    }
    Tolerance tolerance;
    if (dtype == DType::kF32) tolerance = {1e-6 * length, 1e-6 * length};
    if (dtype == DType::kF16) tolerance = {1e-3, 1e-3};
    if (dtype == DType::kBF16) tolerance = {8e-3, 8e-3};
    const HostTensor* const inputs[] = {&x};
    for (const bool reverse : {false, true}) {
      expect_gpu_matches(op::Cumulative{kind, axis, reverse}, inputs, {}, tolerance, placement);
    }
  }
}

class GpuCumulativeTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuCumulativeTest, Rows) {
  for (const std::int64_t n : {1, 4, 33, 130, 5000}) check(Shape{2, n}, 1, GetParam());
}

TEST_P(GpuCumulativeTest, AnyAxis) {
  for (int axis = 0; axis < 3; ++axis) {
    check(Shape{5, 9, 11}, axis, GetParam());
    check(Shape{3, 4, 7}, axis, GetParam(), Placement::kScatteredRows);
  }
  check(Shape{500, 3}, 0, GetParam());
}

TEST_P(GpuCumulativeTest, ZeroSizes) {
  check(Shape{0, 4}, 1, GetParam());
  check(Shape{4, 0}, 1, GetParam());
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuCumulativeTest,
                         ::testing::Values(DType::kU8, DType::kI8, DType::kI32, DType::kU32,
                                           DType::kI64, DType::kF16, DType::kBF16, DType::kF32),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(GpuCumulative, NanStays) {
  for (const int axis : {0, 1}) {
    HostTensor x = random_operand(Shape{300, 300}, DType::kF32, 1);
    x.r(150 * 300 + 150) = kNan;
    const HostTensor* const inputs[] = {&x};
    for (const ReduceKind kind : {ReduceKind::kMax, ReduceKind::kMin}) {
      expect_gpu_matches(op::Cumulative{kind, axis, false}, inputs);
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
