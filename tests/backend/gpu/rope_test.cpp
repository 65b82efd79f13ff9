// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding on the GPU in software.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

HostTensor frequencies(int dims) {
  HostTensor result(Shape{dims / 2}, DType::kF32);
  for (int i = 0; i < dims / 2; ++i) {
    result.r(i) = round_to(std::pow(10000.0, -2.0 * i / dims), DType::kF32);
  }
  return result;
}

void check(const Shape& shape, int dims, DType dtype, bool per_batch,
           Placement placement = Placement::kContiguous) {
  SCOPED_TRACE(to_string(shape));
  const HostTensor x = random_operand(shape, dtype, 1);
  HostTensor offset(per_batch ? Shape{shape[0]} : Shape{}, DType::kI32);
  for (std::int64_t i = 0; i < offset.size(); ++i) offset.n(i) = 3 + 37 * i;
  const HostTensor frequency = frequencies(dims);
  const HostTensor* const inputs[] = {&x, &offset, &frequency};
  const double epsilon = dtype == DType::kF32 ? 2e-5 : dtype == DType::kF16 ? 1e-3 : 8e-3;
  for (const bool interleaved : {false, true}) {
    for (const bool inverse : {false, true}) {
      expect_gpu_matches(op::Rope{dims, interleaved, inverse, 0.5f}, inputs, {},
                         Tolerance{epsilon, epsilon}, placement);
    }
  }
}

class GpuRopeTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuRopeTest, AgreesWithTheReference) {
  for (const bool per_batch : {false, true}) {
    check(Shape{2, 3, 5, 16}, 16, GetParam(), per_batch);
    check(Shape{2, 3, 5, 24}, 16, GetParam(), per_batch);
    check(Shape{2, 17, 9, 64}, 64, GetParam(), per_batch);
    check(Shape{3, 2, 7, 10}, 6, GetParam(), per_batch);
    check(Shape{2, 3, 5, 24}, 16, GetParam(), per_batch, Placement::kScatteredRows);
    check(Shape{2, 2, 2, 3, 8}, 8, GetParam(), per_batch, Placement::kScatteredRows);
    check(Shape{0, 2, 3, 8}, 8, GetParam(), per_batch);
  }
  check(Shape{5, 8}, 8, GetParam(), false);
  check(Shape{1, 1, 1, 128}, 128, GetParam(), true);
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuRopeTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& test) { return std::string(name(test.param)); });

// Angles of tens of thousands of turns: only the angle itself is rounded.
TEST(GpuRope, FarPositions) {
  HostTensor x(Shape{8, 2}, DType::kF32);
  for (std::int64_t i = 0; i < 8; ++i) x.r(2 * i) = 1;
  const HostTensor one = HostTensor::of(Shape{1}, {1});
  for (const std::int64_t first : {0, 100, 131000, 1000000}) {
    const HostTensor offset = HostTensor::of_integers(Shape{}, {first});
    const HostTensor* const inputs[] = {&x, &offset, &one};
    expect_gpu_matches(op::Rope{2, false, false, 1.0f}, inputs, {}, Tolerance{3e-7, 3e-7});
  }
}

}  // namespace
}  // namespace metal_candle::testing
