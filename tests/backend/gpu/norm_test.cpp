// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Norms and their gradients on the GPU in software: rows in registers, of lanes and of groups, rows
// that do not fit, and the sum of the weight's gradient over groups.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

constexpr float kEps = 1e-5f;

double epsilon_of(DType dtype) {
  return dtype == DType::kF32 ? 4e-6 : dtype == DType::kF16 ? 2e-3 : 1.6e-2;
}

void check_forward(const Shape& shape, DType dtype, Placement placement = Placement::kContiguous) {
  const HostTensor x = random_operand(shape, dtype, 1, 2);
  const HostTensor weight = random_operand({shape.back()}, dtype, 2);
  const HostTensor bias = random_operand({shape.back()}, dtype, 3);
  const HostTensor* const inputs[] = {&x, &weight, &bias};
  const std::span<const HostTensor* const> all(inputs);
  const Tolerance tolerance{epsilon_of(dtype), epsilon_of(dtype)};
  for (const std::size_t count : {1u, 2u, 3u}) {
    if (count < 3)
      expect_gpu_matches(op::RmsNorm{kEps}, all.first(count), {}, tolerance, placement);
    expect_gpu_matches(op::LayerNorm{kEps}, all.first(count), {}, tolerance, placement);
  }
}

void check_backward(const Shape& shape, DType dtype, Placement placement = Placement::kContiguous) {
  const HostTensor x = random_operand(shape, dtype, 1, 2);
  const HostTensor weight = random_operand({shape.back()}, dtype, 2);
  const HostTensor dy = random_operand(shape, dtype, 3);
  const HostTensor* const with[] = {&x, &weight, &dy};
  const HostTensor* const without[] = {&x, &dy};
  const double rows = static_cast<double>(num_elements(shape)) /
                      static_cast<double>(std::max<std::int64_t>(shape.back(), 1));
  const Tolerance tolerance{epsilon_of(dtype), epsilon_of(dtype) * std::sqrt(rows + 1)};
  for (const Operation& operation :
       {Operation(op::RmsNormBackward{kEps}), Operation(op::LayerNormBackward{kEps})}) {
    expect_gpu_matches(operation, with, {}, tolerance, placement);
    expect_gpu_matches(operation, without, {}, tolerance, placement);
  }
  const HostTensor residual = random_operand(shape, dtype, 4);
  const HostTensor* const with_residual[] = {&x, &weight, &dy, &residual};
  expect_gpu_matches(op::RmsNormBackward{kEps, true}, with_residual, {}, tolerance, placement);
}

class GpuNormTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuNormTest, RowsOfAnyLength) {
  for (const std::int64_t n : {1, 3, 8, 17, 64, 100, 256, 1000, 1024, 4097, 8192}) {
    SCOPED_TRACE(n);
    check_forward(Shape{3, n}, GetParam());
    check_backward(Shape{3, n}, GetParam());
  }
}

TEST_P(GpuNormTest, ManyRows) {
  for (const std::int64_t n : {5, 64, 255, 256, 1000, 2048}) {
    SCOPED_TRACE(n);
    check_forward(Shape{2, 7, n}, GetParam());
    check_backward(Shape{9, 7, n}, GetParam());
  }
}

TEST_P(GpuNormTest, RowsThatDoNotFitInRegisters) {
  check_forward(Shape{2, 17001}, GetParam());
  check_forward(Shape{2, 33000}, GetParam());
  check_backward(Shape{3, 9001}, GetParam());
  check_backward(Shape{40, 8200}, GetParam());
}

TEST_P(GpuNormTest, DenseRowsAnywhere) {
  for (const Shape& shape : {Shape{3, 5, 33}, Shape{2, 3, 4, 64}, Shape{3, 1000}, Shape{7}}) {
    check_forward(shape, GetParam(), Placement::kScatteredRows);
    check_backward(shape, GetParam(), Placement::kScatteredRows);
  }
}

TEST_P(GpuNormTest, ZeroSizes) {
  for (const Shape& shape : {Shape{0, 4}, Shape{3, 0}, Shape{2, 0, 3}}) {
    check_forward(shape, GetParam());
    check_backward(shape, GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuNormTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& test) { return std::string(name(test.param)); });

// Each of dx and dweight by itself is what it is beside the other.
TEST(GpuNorm, OutputsThatAreNotNeededAreSkipped) {
  const Shape shape{20, 64};
  const HostTensor x = random_operand(shape, DType::kF32, 1);
  const HostTensor weight = random_operand({64}, DType::kF32, 2);
  const HostTensor dy = random_operand(shape, DType::kF32, 3);
  const HostTensor* const inputs[] = {&x, &weight, &dy};
  const TensorSpec specs[] = {x.spec, weight.spec};
  const op::LayerNormBackward operation{kEps};
  const auto both = run_gpu_kernel(operation, inputs, specs);
  const auto dx = run_gpu_kernel(operation, inputs, specs, {1, 0});
  const auto dweight = run_gpu_kernel(operation, inputs, specs, {0, 1});
  const Tolerance tolerance{1e-6, 1e-6};
  EXPECT_TRUE(all_close(dx[0], both[0], tolerance));
  EXPECT_TRUE(all_close(dweight[1], both[1], tolerance));
}

// A mean far from zero must not swallow the variance.
TEST(GpuNorm, LayerNormOfALargeMean) {
  HostTensor x = random_operand(Shape{2, 300}, DType::kF32, 1);
  for (double& value : x.real) value = round_to(value + 10000, DType::kF32);
  const HostTensor* const inputs[] = {&x};
  expect_gpu_matches(op::LayerNorm{kEps}, inputs, {}, Tolerance{2e-3, 2e-3});
}

}  // namespace
}  // namespace metal_candle::testing
