// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sorting and selection on the GPU in software: Sort, ArgSort, ArgTopK and ArgReduce.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// With repeated elements, so that stability shows, and whatever is special about the dtype.
HostTensor operand(const Shape& shape, DType dtype, std::uint32_t seed = 3) {
  HostTensor x = random_operand(shape, dtype, seed, is_integer(dtype) ? 40 : 4);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    if (!x.is_real()) {
      if (i % 41 == 7) x.n(i) = wrap_to(INT64_MIN, dtype);
      continue;
    }
    x.r(i) = std::round(x.r(i));
    if (i % 29 == 5) x.r(i) = -0.0;
    if (i % 31 == 9) x.r(i) = kNan;
    if (i % 37 == 11) x.r(i) = kInf;
    if (i % 43 == 2) x.r(i) = -kInf;
  }
  return x;
}

void check_sort(const Shape& shape, int axis, DType dtype,
                Placement placement = Placement::kContiguous) {
  SCOPED_TRACE(to_string(shape) + std::to_string(axis));
  const HostTensor x = operand(shape, dtype);
  const HostTensor* const inputs[] = {&x};
  for (const bool descending : {false, true}) {
    expect_gpu_matches(op::Sort{axis, descending}, inputs, {}, {}, placement);
    expect_gpu_matches(op::ArgSort{axis, descending}, inputs, {}, {}, placement);
  }
}

void check_top_k(const Shape& shape, int axis, std::int64_t k, DType dtype) {
  SCOPED_TRACE(to_string(shape) + std::to_string(k));
  const HostTensor x = operand(shape, dtype);
  const HostTensor* const inputs[] = {&x};
  Shape requested = shape;
  requested[axis] = k;
  expect_gpu_matches(op::ArgTopK{axis}, inputs, {requested, DType::kI32});
}

void check_arg_reduce(const Shape& shape, int axis, DType dtype,
                      Placement placement = Placement::kContiguous) {
  SCOPED_TRACE(to_string(shape) + std::to_string(axis));
  HostTensor x = operand(shape, dtype);
  for (const bool with_nan : {true, false}) {
    for (double& value : x.real) value = with_nan || !std::isnan(value) ? value : 0;
    const HostTensor* const inputs[] = {&x};
    expect_gpu_matches(op::ArgReduce{true, axis}, inputs, {}, {}, placement);
    expect_gpu_matches(op::ArgReduce{false, axis}, inputs, {}, {}, placement);
  }
}

class GpuSortTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuSortTest, LinesOfAnyLength) {
  for (const std::int64_t n : {1, 2, 3, 17, 64, 300}) check_sort(Shape{3, n}, 1, GetParam());
}

TEST_P(GpuSortTest, AnyAxis) {
  for (int axis = 0; axis < 3; ++axis) {
    check_sort(Shape{3, 5, 7}, axis, GetParam());
    check_sort(Shape{3, 5, 7}, axis, GetParam(), Placement::kScatteredRows);
    check_top_k(Shape{3, 5, 7}, axis, 2, GetParam());
    check_arg_reduce(Shape{3, 5, 70}, axis, GetParam());
    check_arg_reduce(Shape{3, 5, 7}, axis, GetParam(), Placement::kScatteredRows);
  }
}

TEST_P(GpuSortTest, Largest) {
  for (const std::int64_t k : {0, 1, 5, 100}) check_top_k(Shape{2, 100}, 1, k, GetParam());
}

TEST_P(GpuSortTest, ArgReduceOfAnyLength) {
  check_arg_reduce(Shape{1, 9001}, 1, GetParam());
  for (const std::int64_t n : {1, 2, 33, 1000, 5000}) {
    check_arg_reduce(Shape{2, n}, 1, GetParam());
    check_arg_reduce(Shape{n, 2}, 0, GetParam());
  }
}

TEST_P(GpuSortTest, ZeroSizes) {
  check_sort(Shape{0, 4}, 1, GetParam());
  check_sort(Shape{4, 0}, 1, GetParam());
  check_arg_reduce(Shape{0, 4}, 1, GetParam());
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuSortTest,
                         ::testing::Values(DType::kU8, DType::kI8, DType::kI32, DType::kU32,
                                           DType::kI64, DType::kF16, DType::kBF16, DType::kF32),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(GpuSort, LinesOfManyBlocks) {
  for (const std::int64_t n : {2048, 2049, 5000}) check_sort(Shape{1, n}, 1, DType::kF32);
  check_sort(Shape{2, 2100}, 1, DType::kI64);
  check_sort(Shape{2100, 2}, 0, DType::kBF16);
  for (const std::int64_t k : {1, 50, 3000}) check_top_k(Shape{1, 9000}, 1, k, DType::kF32);
}

}  // namespace
}  // namespace metal_candle::testing
