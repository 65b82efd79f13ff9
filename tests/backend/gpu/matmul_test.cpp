// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products on the GPU in software: which products are asked of the library, and what our own
// kernels do of the rest.
#include <gtest/gtest.h>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

Tolerance tolerance_of(DType dtype) {
  if (!is_floating(dtype)) return {};
  return dtype == DType::kF32 ? Tolerance{1e-5, 1e-5} : Tolerance{2e-2, 2e-2};
}

struct Shapes {
  Shape a, b;
};

class GpuMatmulTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuMatmulTest, AgreesWithTheReference) {
  const DType dtype = GetParam();
  for (const Shapes& shapes :
       {Shapes{{5, 7}, {7, 3}}, Shapes{{1, 33}, {33, 9}}, Shapes{{4, 1}, {1, 6}},
        Shapes{{2, 3, 4}, {4, 5}}, Shapes{{2, 3, 4}, {2, 4, 5}}, Shapes{{3, 1, 2, 4}, {2, 4, 3}},
        Shapes{{2, 1, 3, 4}, {1, 3, 4, 2}}, Shapes{{3, 0}, {0, 2}}, Shapes{{0, 3}, {3, 2}}}) {
    const HostTensor a = random_operand(shapes.a, dtype, 1);
    const HostTensor b = random_operand(shapes.b, dtype, 2);
    const HostTensor* const inputs[] = {&a, &b};
    expect_gpu_matches(op::Matmul{}, inputs, {}, tolerance_of(dtype));
  }
}
INSTANTIATE_TEST_SUITE_P(DTypes, GpuMatmulTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16, DType::kI32,
                                           DType::kU8, DType::kI64),
                         [](const auto& param_info) {
                           return std::string(name(param_info.param));
                         });

TEST(GpuLinearTest, EveryEpilogueAgreesWithTheReference) {
  using enum op::Activation;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const HostTensor x = random_operand({2, 5, 7}, dtype, 1);
    const HostTensor w = random_operand({7, 6}, dtype, 2);
    const HostTensor bias = random_operand({6}, dtype, 3);
    const HostTensor residual = random_operand({2, 5, 6}, dtype, 4);
    for (const op::Activation activation : {kNone, kRelu, kGelu, kGeluTanh, kSilu}) {
      for (const bool has_bias : {false, true}) {
        for (const bool has_residual : {false, true}) {
          std::vector<const HostTensor*> inputs{&x, &w};
          if (has_bias) inputs.push_back(&bias);
          if (has_residual) inputs.push_back(&residual);
          expect_gpu_matches(op::Linear{activation, has_bias, has_residual, 0.5f}, inputs, {},
                             tolerance_of(dtype));
        }
      }
    }
  }
}

// Weights as model files have them, [columns, depth], are read in columns.
TEST(GpuLinearTest, FewRowsAgreeWithTheReferenceWhicheverWayTheWeightLies) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9}) {
      for (const std::int64_t columns : {1, 37}) {
        for (const std::int64_t depth : {8, 272, 7}) {
          const HostTensor x = random_operand({rows, depth}, dtype, 1);
          const HostTensor w = random_operand({depth, columns}, dtype, 2);
          const HostTensor bias = random_operand({columns}, dtype, 3);
          const HostTensor residual = random_operand({rows, columns}, dtype, 4);
          const HostTensor* const inputs[] = {&x, &w, &bias, &residual};
          const op::Linear linear{op::Activation::kSilu, true, true, 0.5f};
          for (std::uint32_t seed = 1; seed <= 3; ++seed) {
            expect_gpu_matches(linear, inputs, {}, tolerance_of(dtype), Placement::kContiguous,
                               seed);
            expect_gpu_matches(linear, inputs, {}, tolerance_of(dtype), Placement::kColumns, seed);
          }
        }
      }
    }
  }
}

TEST(GpuLinearTest, WarpsThatShareTheDepth) {
  for (const std::int64_t depth : {256, 520, 1048, 4096}) {
    for (const std::int64_t rows : {2, 8}) {
      const HostTensor x = random_operand({rows, depth}, DType::kF32, 1);
      const HostTensor w = random_operand({depth, 5}, DType::kF32, 2);
      const HostTensor* const inputs[] = {&x, &w};
      expect_gpu_matches(op::Matmul{}, inputs, {}, Tolerance{1e-4, 1e-3}, Placement::kColumns);
    }
  }
}

TEST(GpuNormLinearTest, AgreesWithTheReferenceWhicheverWayTheWeightLies) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t rows : {1, 3, 4, 8, 9}) {
      for (const std::int64_t depth : {8, 7, 528}) {
        const HostTensor x = random_operand({rows, depth}, dtype, 1);
        const HostTensor norm = random_operand({depth}, dtype, 2);
        const HostTensor w = random_operand({depth, 19}, dtype, 3);
        const HostTensor up = random_operand({depth, 19}, dtype, 4);
        const HostTensor bias = random_operand({19}, dtype, 5);
        const HostTensor residual = random_operand({rows, 19}, dtype, 6);
        const Tolerance tolerance =
            dtype == DType::kF32 ? Tolerance{1e-4, 1e-3} : Tolerance{0.1, 2};
        const op::Linear plain{op::Activation::kNone, false, false, 1};
        for (const Placement placement : {Placement::kContiguous, Placement::kColumns}) {
          const HostTensor* const linear[] = {&x, &norm, &w, &bias, &residual};
          expect_gpu_matches(
              op::NormLinear{1e-5f, false, {op::Activation::kSilu, true, true, 0.5f}}, linear, {},
              tolerance, placement);
          const HostTensor* const alone[] = {&x, &norm, &w};
          expect_gpu_matches(op::NormLinear{0.1f, false, plain}, alone, {}, tolerance, placement);
          const HostTensor* const gated[] = {&x, &norm, &w, &up};
          expect_gpu_matches(op::NormLinear{1e-5f, true, plain}, gated, {}, tolerance, placement);
        }
      }
    }
  }
}

TEST(GpuLinearTest, AProductOverNothingIsItsBias) {
  const HostTensor x({3, 0}, DType::kF32);
  const HostTensor w({0, 2}, DType::kF32);
  const HostTensor bias = HostTensor::of({2}, {1, -2});
  const HostTensor* const inputs[] = {&x, &w, &bias};
  expect_gpu_matches(op::Linear{op::Activation::kRelu, true, false, 1}, inputs);
}

}  // namespace
}  // namespace metal_candle::testing
