// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels that move elements: copies of views, Concatenate, Pad. Every element size, every way an
// operand may lie.
#include <gtest/gtest.h>

#include "tests/backend/elementwise_cases.h"
#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"

namespace metal_candle::testing {
namespace {

constexpr DType kSizes[] = {DType::kBool, DType::kBF16, DType::kF32, DType::kI64};
constexpr Placement kPlacements[] = {Placement::kContiguous, Placement::kScattered};

void expect_copies(const Operation& operation, const Shape& shape, const Shape& output) {
  std::mt19937 random(5);
  for (const DType dtype : kSizes) {
    for (const Placement placement : kPlacements) {
      for (std::uint32_t seed = 0; seed < 3; ++seed) {
        const HostTensor x = random_tensor(shape, dtype, random);
        const HostTensor* inputs[] = {&x};
        SCOPED_TRACE(to_string(shape) + " seed " + std::to_string(seed));
        expect_gpu_matches(operation, inputs, {output, dtype}, Tolerance{}, placement, seed);
      }
    }
  }
}

TEST(GpuCopyTest, DenseAndStrided) {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{0}, Shape{1037}, Shape{3, 0, 2}, Shape{7, 32},
                             Shape{5, 4, 33}, Shape{2, 3, 4, 5, 2}}) {
    expect_copies(op::Identity{}, shape, shape);
  }
  expect_copies(op::Reshape{}, {6, 40}, {8, 30});
}

TEST(GpuCopyTest, TransposesByTiles) {
  expect_copies(op::Transpose{{1, 0}}, {70, 130}, {130, 70});
  expect_copies(op::Transpose{{1, 0}}, {33, 9}, {9, 33});
  expect_copies(op::Transpose{{1, 0}}, {64, 5}, {5, 64});
  expect_copies(op::Transpose{{0, 2, 1}}, {3, 65, 34}, {3, 34, 65});
  expect_copies(op::Transpose{{2, 1, 0}}, {12, 3, 66}, {66, 3, 12});
  expect_copies(op::Transpose{{1, 3, 0, 2}}, {2, 10, 3, 40}, {10, 40, 2, 3});
}

TEST(GpuCopyTest, SlicesAndBroadcasts) {
  expect_copies(op::Slice{{1, 2}, {2, 3}}, {9, 50}, {4, 16});
  expect_copies(op::Slice{{8, 49}, {-1, -2}}, {9, 50}, {9, 25});
  expect_copies(op::Slice{{0, 16}, {1, 1}}, {9, 64}, {9, 32});
  expect_copies(op::Broadcast{}, {1, 40}, {6, 40});
  expect_copies(op::Broadcast{}, {6, 1}, {2, 6, 40});
  expect_copies(op::Broadcast{}, {}, {3, 5});
}

TEST(GpuCopyTest, AtAnyAddress) {
  std::mt19937 random(6);
  for (const DType dtype : kSizes) {
    for (const std::size_t shift : {0u, 1u, 2u, 3u}) {
      const HostTensor x = random_tensor({70, 136}, dtype, random);
      const HostTensor* inputs[] = {&x};
      EXPECT_TRUE(all_close(run_gpu_kernel_at(op::Identity{}, inputs, x.spec, {shift}), x, {}));
      const Operation transpose = op::Transpose{{1, 0}};
      const TensorSpec spec{{136, 70}, dtype};
      EXPECT_TRUE(all_close(run_gpu_kernel_at(transpose, inputs, spec, {shift}),
                            reference(transpose, inputs, spec), {}));
    }
  }
}

TEST(GpuConcatenateTest, JoinsAlongEveryAxis) {
  std::mt19937 random(7);
  for (const DType dtype : kSizes) {
    for (int axis = 0; axis < 3; ++axis) {
      for (const Placement placement : kPlacements) {
        Shape shape = {4, 3, 16};
        std::vector<HostTensor> parts;
        for (const std::int64_t length : {16, 0, 5, 32}) {
          shape[axis] = length;
          parts.push_back(random_tensor(shape, dtype, random));
        }
        const HostTensor* inputs[] = {&parts[0], &parts[1], &parts[2], &parts[3]};
        expect_gpu_matches(op::Concatenate{axis}, inputs, {}, Tolerance{}, placement);
      }
    }
  }
}

TEST(GpuPadTest, OnAnySide) {
  std::mt19937 random(8);
  for (const DType dtype : kAllDTypes) {
    for (const Placement placement : kPlacements) {
      const HostTensor x = random_tensor({3, 4, 8}, dtype, random);
      const HostTensor* inputs[] = {&x};
      const Scalar value = Scalar::from_integer(3);
      expect_gpu_matches(op::Pad{{1, 0, 8}, value}, inputs, {{5, 4, 24}, dtype}, Tolerance{},
                         placement);
      expect_gpu_matches(op::Pad{{0, 2, 0}, value}, inputs, {{3, 7, 8}, dtype}, Tolerance{},
                         placement);
      expect_gpu_matches(op::Pad{{0, 0, 0}, value}, inputs, {x.shape(), dtype}, Tolerance{},
                         placement);
    }
    const HostTensor none({0, 2}, dtype);
    const HostTensor* inputs[] = {&none};
    expect_gpu_matches(op::Pad{{1, 1}, Scalar::from_integer(1)}, inputs, {{2, 3}, dtype});
  }
}

}  // namespace
}  // namespace metal_candle::testing
