// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Lora and LoraLinear on the GPU in software, with few rows and with many.
#include <gtest/gtest.h>

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

TEST(GpuLoraTest, ManyRowsOrALargeRankAgreeWithTheReference) {
  expect_lora(20, 8, DType::kF32);
  expect_lora(20, 4, DType::kBF16);
  expect_lora(1, 70, DType::kF32);
}

}  // namespace
}  // namespace metal_candle::testing
