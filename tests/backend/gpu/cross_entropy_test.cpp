// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cross entropy and its gradient on the GPU in software.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

constexpr std::int64_t kIgnored = -100;

HostTensor random_targets(const Shape& shape, std::int64_t classes, DType dtype) {
  HostTensor targets(shape, dtype);
  std::mt19937 engine(9);
  for (std::int64_t i = 0; i < targets.size(); ++i) {
    targets.n(i) = i % 4 == 1 ? kIgnored : static_cast<std::int64_t>(engine() % classes);
  }
  return targets;
}

void check(const Shape& shape, DType dtype, DType target_dtype = DType::kI32,
           Placement placement = Placement::kContiguous) {
  SCOPED_TRACE(to_string(shape));
  const HostTensor logits = random_operand(shape, dtype, 1, 3);
  Shape rows = shape;
  rows.erase(shape.rank() - 1);
  const HostTensor targets = random_targets(rows, shape.back(), target_dtype);
  const HostTensor* const forward[] = {&logits, &targets};
  expect_gpu_matches(op::CrossEntropy{kIgnored}, forward, {}, Tolerance{2e-6, 4e-6}, placement);
  const HostTensor logsumexp =
      interpret_operation(op::CrossEntropy{kIgnored}, forward, {rows, DType::kF32})[1];
  const HostTensor dloss = random_operand(rows, DType::kF32, 2);
  const HostTensor* const backward[] = {&logits, &targets, &logsumexp, &dloss};
  const double epsilon = dtype == DType::kF32 ? 4e-6 : dtype == DType::kF16 ? 1e-3 : 8e-3;
  expect_gpu_matches(op::CrossEntropyBackward{kIgnored}, backward, {}, Tolerance{epsilon, 1e-6},
                     placement);
}

class GpuCrossEntropyTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuCrossEntropyTest, AgreesWithTheReference) {
  for (const std::int64_t n : {1, 2, 10, 64, 1000, 4099, 20000}) {
    check(Shape{5, n}, GetParam());
    check(Shape{2, 3, n}, GetParam(), DType::kI64, Placement::kScatteredRows);
  }
  check(Shape{700, 16}, GetParam());
  check(Shape{9}, GetParam());
  check(Shape{0, 9}, GetParam());
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuCrossEntropyTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(GpuCrossEntropy, ATargetThatIsNoClassGivesNan) {
  const HostTensor logits = random_operand(Shape{3, 8}, DType::kF32, 1);
  const HostTensor targets = HostTensor::of_integers(Shape{3}, {8, 2, -1});
  const HostTensor* const inputs[] = {&logits, &targets};
  const TensorSpec specs[] = {{Shape{3}, DType::kF32}, {Shape{3}, DType::kF32}};
  const auto outputs = run_gpu_kernel(op::CrossEntropy{kIgnored}, inputs, specs);
  EXPECT_TRUE(std::isnan(outputs[0].r(0)));
  EXPECT_FALSE(std::isnan(outputs[0].r(1)));
  EXPECT_TRUE(std::isnan(outputs[0].r(2)));
  EXPECT_FALSE(std::isnan(outputs[1].r(0)));
}

// What is large in logits and in their sum does not cost the digits of the loss.
TEST(GpuCrossEntropy, LargeLogits) {
  const HostTensor logits = HostTensor::of(Shape{1, 3}, {100000, 99999, 99990});
  const HostTensor targets = HostTensor::of_integers(Shape{1}, {1});
  const HostTensor* const inputs[] = {&logits, &targets};
  const TensorSpec specs[] = {{Shape{1}, DType::kF32}, {Shape{1}, DType::kF32}};
  const auto outputs = run_gpu_kernel(op::CrossEntropy{kIgnored}, inputs, specs, {1, 0});
  EXPECT_NEAR(outputs[0].r(0), std::log(1 + std::exp(-1.0) + std::exp(-10.0)) + 1, 1e-5);
}

}  // namespace
}  // namespace metal_candle::testing
