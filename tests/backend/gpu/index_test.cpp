// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels that read and write at indices.
#include <gtest/gtest.h>

#include "tests/backend/elementwise_cases.h"
#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"

namespace metal_candle::testing {
namespace {

// In [-length, length).
HostTensor random_indices(const Shape& shape, std::int64_t length, DType dtype,
                          std::mt19937& random) {
  HostTensor indices(shape, dtype);
  for (std::int64_t& index : indices.integer) {
    index = static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(2 * length)) - length;
  }
  return indices;
}

// Small integers, which add up exactly in any order but for their rounding at the end.
HostTensor small_tensor(const Shape& shape, DType dtype, std::mt19937& random) {
  HostTensor x(shape, dtype);
  for (double& value : x.real) value = static_cast<double>(random() % 33) - 16;
  for (std::int64_t& value : x.integer) {
    value = wrap_to(static_cast<std::int64_t>(random() % 200), dtype);
  }
  return x;
}

TEST(GpuTakeTest, RowsAndElements) {
  std::mt19937 random(1);
  for (const DType dtype : kAllDTypes) {
    for (const DType index : {DType::kI32, DType::kI64}) {
      for (int axis = 0; axis < 3; ++axis) {
        for (const Shape& shape : {Shape{5, 3, 32}, Shape{4, 7, 3}, Shape{6, 2, 1}}) {
          const HostTensor x = random_tensor(shape, dtype, random);
          for (const Shape& at : {Shape{}, Shape{9}, Shape{2, 0}, Shape{3, 4}}) {
            const HostTensor indices = random_indices(at, shape[axis], index, random);
            const HostTensor* inputs[] = {&x, &indices};
            expect_gpu_matches(op::Take{axis}, inputs, {}, Tolerance{});
          }
        }
      }
    }
  }
}

TEST(GpuTakeTest, RowsAtAnyAddress) {
  std::mt19937 random(2);
  for (const DType dtype : {DType::kI8, DType::kBF16, DType::kF32, DType::kI64}) {
    for (const std::size_t shift : {0u, 1u, 3u}) {
      const HostTensor x = random_tensor({11, 64}, dtype, random);
      const HostTensor indices = random_indices({40}, 11, DType::kI32, random);
      const HostTensor* inputs[] = {&x, &indices};
      const TensorSpec spec{{40, 64}, dtype};
      EXPECT_TRUE(all_close(run_gpu_kernel_at(op::Take{0}, inputs, spec, {shift}),
                            reference(op::Take{0}, inputs, spec), {}));
    }
  }
}

TEST(GpuTakeTest, OutOfRangeIsZero) {
  const HostTensor x = HostTensor::of({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  const HostTensor indices = HostTensor::of_integers({5}, {2, -3, 1, 1000000, -2}, DType::kI64);
  const HostTensor* inputs[] = {&x, &indices};
  const TensorSpec spec{{5, 4}, DType::kF32};
  const HostTensor rows = run_gpu_kernel(op::Take{0}, inputs, std::span(&spec, 1))[0];
  EXPECT_EQ(rows.real,
            (std::vector<double>{0, 0, 0, 0, 0, 0, 0, 0, 5, 6, 7, 8, 0, 0, 0, 0, 1, 2, 3, 4}));
  const HostTensor along = HostTensor::of_integers({1, 4}, {0, 2, -1, -9});
  const HostTensor* pair[] = {&x, &along};
  const TensorSpec row{{1, 4}, DType::kF32};
  EXPECT_EQ(run_gpu_kernel(op::TakeAlongAxis{0}, pair, std::span(&row, 1))[0].real,
            (std::vector<double>{1, 0, 7, 0}));
}

TEST(GpuTakeTest, AlongAnAxis) {
  std::mt19937 random(3);
  for (const DType dtype : kAllDTypes) {
    for (int axis = 0; axis < 3; ++axis) {
      Shape shape = {5, 6, 7};
      const HostTensor x = random_tensor(shape, dtype, random);
      shape[axis] = 4;
      const HostTensor indices = random_indices(shape, x.shape()[axis], DType::kI64, random);
      const HostTensor* inputs[] = {&x, &indices};
      expect_gpu_matches(op::TakeAlongAxis{axis}, inputs, {}, Tolerance{});
    }
  }
}

TEST(GpuScatterAddTest, AddsRepeatedIndices) {
  std::mt19937 random(4);
  for (const DType dtype : kAllDTypes) {
    if (dtype == DType::kBool) continue;
    for (int axis = 0; axis < 3; ++axis) {
      for (const std::int64_t count : {0, 1, 20, 300}) {
        const HostTensor x = small_tensor({5, 4, 6}, dtype, random);
        Shape shape = x.shape();
        shape[axis] = count;
        const DType index = count % 3 == 0 ? DType::kI32 : DType::kI64;
        const HostTensor updates = small_tensor(shape, dtype, random);
        const HostTensor rows = random_indices({count}, x.shape()[axis], index, random);
        const HostTensor* inputs[] = {&x, &rows, &updates};
        expect_gpu_matches(op::ScatterAdd{axis}, inputs);
        const HostTensor along = random_indices(shape, x.shape()[axis], index, random);
        const HostTensor* lines[] = {&x, &along, &updates};
        expect_gpu_matches(op::ScatterAddAlongAxis{axis}, lines);
        EXPECT_TRUE(all_close(run_gpu_kernel_at(op::ScatterAdd{axis}, inputs, x.spec, {0, 0}),
                              reference(op::ScatterAdd{axis}, inputs, x.spec)));
      }
    }
  }
}

TEST(GpuScatterAddTest, AddsInOrderOfPositionAndSkipsWhatIsOutOfRange) {
  // In any other order, 1 would be lost beside 2^24 or not.
  const HostTensor x = HostTensor::of({2}, {0, 0});
  const HostTensor indices = HostTensor::of_integers({6}, {0, 5, 0, -2, 1, -3});
  const HostTensor updates = HostTensor::of({6}, {16777216, 7, 1, -16777216, 3, 7});
  const HostTensor* inputs[] = {&x, &indices, &updates};
  for (const Operation& operation :
       {Operation(op::ScatterAdd{0}), Operation(op::ScatterAddAlongAxis{0})}) {
    EXPECT_EQ(run_gpu_kernel(operation, inputs, std::span(&x.spec, 1))[0].real,
              (std::vector<double>{0, 3}));
  }
}

TEST(GpuSliceUpdateTest, WithStepsAndStrides) {
  std::mt19937 random(5);
  for (const DType dtype : kAllDTypes) {
    for (const Placement placement : {Placement::kContiguous, Placement::kScattered}) {
      const HostTensor x = random_tensor({6, 5, 32}, dtype, random);
      const HostTensor update = random_tensor({2, 3, 16}, dtype, random);
      const HostTensor* inputs[] = {&x, &update};
      for (const op::SliceUpdate& operation :
           {op::SliceUpdate{{1, 1, 16}, {1, 1, 1}}, op::SliceUpdate{{5, 0, 31}, {-3, 2, -2}}}) {
        expect_gpu_matches(operation, inputs, {}, Tolerance{}, placement);
        EXPECT_TRUE(all_close(run_gpu_kernel_at(operation, inputs, x.spec, {0, 0}),
                              reference(operation, inputs, x.spec), {}));
      }
    }
  }
}

TEST(GpuDynamicSliceTest, StartsAreClamped) {
  std::mt19937 random(6);
  for (const DType dtype : {DType::kU8, DType::kF16, DType::kF32, DType::kI64}) {
    for (const DType index : {DType::kI32, DType::kI64}) {
      for (const auto& at : {std::pair(1, 3), std::pair(-4, 100)}) {
        const HostTensor x = random_tensor({6, 5, 32}, dtype, random);
        const HostTensor starts = HostTensor::of_integers({2}, {at.first, at.second}, index);
        const HostTensor update = random_tensor({4, 5, 7}, dtype, random);
        const HostTensor* slice[] = {&x, &starts};
        const HostTensor* three[] = {&x, &update, &starts};
        const Axes axes = {0, 2};
        for (const Placement placement : {Placement::kContiguous, Placement::kScattered}) {
          expect_gpu_matches(op::DynamicSlice{axes}, slice, update.spec, Tolerance{}, placement);
          expect_gpu_matches(op::DynamicSliceUpdate{axes}, three, {}, Tolerance{}, placement);
        }
        EXPECT_TRUE(
            all_close(run_gpu_kernel_at(op::DynamicSliceUpdate{axes}, three, x.spec, {0, 0}),
                      reference(op::DynamicSliceUpdate{axes}, three, x.spec), {}));
      }
    }
  }
}

TEST(GpuDynamicSliceTest, RowsOfACache) {
  std::mt19937 random(7);
  for (const std::int64_t at : {0, 3, 9}) {
    const HostTensor x = random_tensor({2, 3, 10, 64}, DType::kBF16, random);
    const HostTensor update = random_tensor({2, 3, 1, 64}, DType::kBF16, random);
    const HostTensor starts = HostTensor::of_integers({1}, {at});
    const HostTensor* inputs[] = {&x, &update, &starts};
    const Operation operation = op::DynamicSliceUpdate{{2}};
    EXPECT_TRUE(all_close(run_gpu_kernel_at(operation, inputs, x.spec, {0, 0}),
                          reference(operation, inputs, x.spec), {}));
  }
}

}  // namespace
}  // namespace metal_candle::testing
