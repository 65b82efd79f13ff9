// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Softmax and its relatives on the GPU in software: rows in registers, of lanes and of groups, rows
// in chunks, columns.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Of probabilities and their logarithms.
Tolerance tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {4e-6, 1e-6};
    case DType::kF16:
      return {2e-3, 1e-6};
    default:
      return {1e-2, 1e-6};
  }
}

void check_forward(const HostTensor& x, int axis, Placement placement = Placement::kContiguous) {
  const HostTensor* const inputs[] = {&x};
  const Tolerance tolerance = tolerance_of(x.dtype());
  expect_gpu_matches(op::Softmax{axis}, inputs, {}, tolerance, placement);
  expect_gpu_matches(op::LogSoftmax{axis}, inputs, {}, tolerance, placement);
  if (x.shape()[axis] > 0) {
    expect_gpu_matches(op::LogSumExp{axis, false}, inputs, {}, tolerance, placement);
  }
}

void check_backward(const Shape& shape, DType dtype, int axis,
                    Placement placement = Placement::kContiguous) {
  const HostTensor y = random_operand(shape, dtype, 1, 0.3), dy = random_operand(shape, dtype, 2);
  const HostTensor* const inputs[] = {&y, &dy};
  const double length = std::sqrt(static_cast<double>(shape[axis]));
  Tolerance tolerance = tolerance_of(dtype);
  tolerance.absolute = dtype == DType::kF32 ? 1e-6 * length : tolerance.relative;
  expect_gpu_matches(op::SoftmaxBackward{axis}, inputs, {}, tolerance, placement);
}

class GpuSoftmaxTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuSoftmaxTest, RowsOfAnyLength) {
  for (const std::int64_t n : {1, 3, 7, 8, 17, 32, 100, 128, 256, 1000, 1024, 4097, 8192}) {
    SCOPED_TRACE(n);
    check_forward(random_operand(Shape{3, n}, GetParam(), 7, 3), 1);
    check_backward(Shape{3, n}, GetParam(), 1);
  }
}

TEST_P(GpuSoftmaxTest, ManyRows) {
  for (const std::int64_t n : {5, 64, 255, 256, 1000, 1024, 2048}) {
    SCOPED_TRACE(n);
    check_forward(random_operand(Shape{13, n}, GetParam(), 7, 3), 1);
    check_backward(Shape{13, n}, GetParam(), 1);
  }
}

TEST_P(GpuSoftmaxTest, RowsInChunks) {
  for (const std::int64_t n : {17001, 33000}) {
    SCOPED_TRACE(n);
    check_forward(random_operand(Shape{2, n}, GetParam(), 7, 3), 1);
  }
  check_backward(Shape{2, 17000}, GetParam(), 1);
}

TEST_P(GpuSoftmaxTest, AnyAxis) {
  for (const Shape& shape : {Shape{5, 3, 17}, Shape{4, 9, 300}, Shape{1, 2, 1}, Shape{3, 1, 8}}) {
    for (int axis = 0; axis < 3; ++axis) {
      SCOPED_TRACE(to_string(shape) + std::to_string(axis));
      check_forward(random_operand(shape, GetParam(), 3, 2), axis);
      check_backward(shape, GetParam(), axis);
    }
  }
}

TEST_P(GpuSoftmaxTest, DenseRowsAnywhere) {
  for (const Shape& shape : {Shape{3, 5, 33}, Shape{2, 3, 4, 64}, Shape{3, 1000}, Shape{7}}) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      SCOPED_TRACE(to_string(shape) + std::to_string(axis));
      check_forward(random_operand(shape, GetParam(), 11, 2), axis, Placement::kScatteredRows);
      check_backward(shape, GetParam(), axis, Placement::kScatteredRows);
    }
  }
}

TEST_P(GpuSoftmaxTest, ZeroSizes) {
  for (const Shape& shape : {Shape{0, 4}, Shape{3, 0}, Shape{2, 0, 3}}) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      check_forward(HostTensor(shape, GetParam()), axis);
      check_backward(shape, GetParam(), axis);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuSoftmaxTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& test) { return std::string(name(test.param)); });

// Short rows, long rows and columns take different code.
TEST(GpuSoftmax, InfinitiesAndNan) {
  for (const std::int64_t n : {5, 64, 3000, 16401}) {
    for (const bool columns : {false, true}) {
      SCOPED_TRACE(n);
      const Shape shape = columns ? Shape{n, 4} : Shape{4, n};
      const auto at = [&](std::int64_t row, std::int64_t i) {
        return columns ? i * 4 + row : row * n + i;
      };
      HostTensor x(shape, DType::kF32);
      for (std::int64_t i = 0; i < n; ++i) {
        x.r(at(0, i)) = -kInf;
        x.r(at(1, i)) = i == 3 ? kInf : 1.0;
        x.r(at(2, i)) = i == 2 ? kNan : 1.0;
        x.r(at(3, i)) = i == 1 ? 200.0 : -kInf;
      }
      const int axis = columns ? 0 : 1;
      const TensorSpec spec{shape, DType::kF32}, reduced{Shape{4}, DType::kF32};
      const HostTensor* const inputs[] = {&x};
      const HostTensor y = run_gpu_kernel(op::Softmax{axis}, inputs, {&spec, 1})[0];
      const HostTensor l = run_gpu_kernel(op::LogSoftmax{axis}, inputs, {&spec, 1})[0];
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t row = 0; row < 3; ++row) {
          ASSERT_TRUE(std::isnan(y.r(at(row, i)))) << row << ' ' << i;
          ASSERT_TRUE(row == 1 || std::isnan(l.r(at(row, i)))) << row << ' ' << i;
        }
        ASSERT_EQ(y.r(at(3, i)), i == 1 ? 1 : 0);
        ASSERT_EQ(l.r(at(3, i)), i == 1 ? 0 : -kInf);
      }
      const HostTensor sum = run_gpu_kernel(op::LogSumExp{axis, false}, inputs, {&reduced, 1})[0];
      EXPECT_TRUE(all_close(sum, HostTensor::of(Shape{4}, {-kInf, kInf, kNan, 200.0})));
    }
  }
}

TEST(GpuSoftmax, LargeValuesDoNotOverflow) {
  const HostTensor x = HostTensor::of(Shape{4}, {3e38, 3e38, -3e38, 0});
  const HostTensor* const inputs[] = {&x};
  const TensorSpec spec{Shape{4}, DType::kF32};
  const HostTensor y = run_gpu_kernel(op::Softmax{0}, inputs, {&spec, 1})[0];
  EXPECT_TRUE(all_close(y, HostTensor::of(Shape{4}, {0.5, 0.5, 0, 0})));
}

}  // namespace
}  // namespace metal_candle::testing
