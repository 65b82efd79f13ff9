// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Lora and LoraLinear on the GPU in software, with few rows and with many.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

void expect_lora(std::int64_t rows, std::int64_t rank, DType dtype) {
  const HostTensor x = random_operand({rows, 37}, dtype, 1);
  const HostTensor w = random_operand({37, 300}, dtype, 2);
  const HostTensor a = random_operand({37, rank}, dtype, 3);
  const HostTensor b = random_operand({rank, 300}, dtype, 4);
  const HostTensor bias = random_operand({300}, dtype, 5);
  const Tolerance tolerance = dtype == DType::kF32 ? Tolerance{1e-4, 1e-4} : Tolerance{4e-2, 0.3};
  const HostTensor* const plain[] = {&x, &a, &b};
  expect_gpu_matches(op::Lora{0.5f}, plain, {}, tolerance);
  const HostTensor* const linear[] = {&x, &w, &a, &b};
  expect_gpu_matches(op::LoraLinear{0.5f, false}, linear, {}, tolerance);
  const HostTensor* const with_bias[] = {&x, &w, &a, &b, &bias};
  expect_gpu_matches(op::LoraLinear{0.5f, true}, with_bias, {}, tolerance);
  expect_gpu_matches(op::LoraLinear{0.5f, true, true}, with_bias, {}, tolerance);
}

TEST(GpuLoraTest, FewRowsAgreeWithTheReference) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    expect_lora(1, 8, dtype);
    expect_lora(3, 5, dtype);
  }
  expect_lora(2, 64, DType::kF32);
}

// a dense, and transposed as adapter files have it; in whole packets or not; beginning anywhere.
TEST(GpuLoraTest, EveryWayToReadAAgreesWithTheReference) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const std::int64_t depth : {16, 40, 2200}) {
      for (const std::int64_t rank : {1, 4, 8, 16}) {
        const HostTensor x = random_operand({2, depth}, dtype, 1);
        const HostTensor a = random_operand({depth, rank}, dtype, 2);
        const HostTensor b = random_operand({rank, 600}, dtype, 3);
        const HostTensor* const operands[] = {&x, &a, &b};
        const op::Lora lora{0.5f};
        const double size = std::sqrt(static_cast<double>(depth * rank));
        const Tolerance tolerance =
            dtype == DType::kF32 ? Tolerance{1e-4, 1e-5 * size} : Tolerance{4e-2, 2e-2 * size};
        expect_gpu_matches(lora, operands, {}, tolerance);
        expect_gpu_matches(lora, operands, {}, tolerance, Placement::kColumns);
        const TensorSpec spec{{2, 600}, dtype};
        EXPECT_TRUE(all_close(run_gpu_kernel_at(lora, operands, spec, {.shift = 1}),
                              interpret_operation(lora, operands, spec)[0], tolerance));
      }
    }
  }
}

TEST(GpuLoraTest, ManyRowsOrALargeRankAgreeWithTheReference) {
  expect_lora(20, 8, DType::kF32);
  expect_lora(20, 4, DType::kBF16);
  expect_lora(1, 70, DType::kF32);
}

// In f32 by kernels of ours: depths that are cut and not, whole packets and not, either way to lie,
// any beginning.
TEST(GpuLoraTest, ManyRowsInF32AgreeWithTheReference) {
  const op::Lora lora{0.5f};
  for (const auto& [rows, depth, columns] :
       {std::tuple(9, 2200, 260), std::tuple(16, 37, 300), std::tuple(33, 516, 7),
        std::tuple(130, 40, 520), std::tuple(700, 24, 36), std::tuple(1, 3000, 600)}) {
    for (const std::int64_t rank : {1, 4, 8, 12, 20, 64}) {
      if (rows == 1 && rank <= 16) continue;  // That is the kernel of few rows.
      const HostTensor x = random_operand({rows, depth}, DType::kF32, 1);
      const HostTensor a = random_operand({depth, rank}, DType::kF32, 2);
      const HostTensor b = random_operand({rank, columns}, DType::kF32, 3);
      const HostTensor* const operands[] = {&x, &a, &b};
      const Tolerance tolerance{1e-4, 1e-5 * std::sqrt(static_cast<double>(depth * rank))};
      expect_gpu_matches(lora, operands, {}, tolerance);
      expect_gpu_matches(lora, operands, {}, tolerance, Placement::kColumns);
      if (rows <= 33) {
        const HostTensor w = random_operand({depth, columns}, DType::kF32, 4);
        const HostTensor bias = random_operand({columns}, DType::kF32, 5);
        const HostTensor* const linear[] = {&x, &w, &a, &b, &bias};
        expect_gpu_matches(op::LoraLinear{0.5f, true}, linear, {}, tolerance);
      }
      const TensorSpec spec{{rows, columns}, DType::kF32};
      const HostTensor expected = interpret_operation(lora, operands, spec)[0];
      for (const std::size_t shift : {1, 4}) {
        EXPECT_TRUE(all_close(run_gpu_kernel_at(lora, operands, spec, {.shift = shift}), expected,
                              tolerance))
            << rows << " rows, rank " << rank;
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
