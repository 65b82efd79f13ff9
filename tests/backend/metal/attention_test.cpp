// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention by simdgroup matrices, in Metal's own text of the kernels, against the
// CPU's. tests/backend/gpu has the cases; these are one of each kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/backend/metal/registered_backend.h"

namespace metal_candle::backend::metal {
namespace {

Tensor some(const Shape& shape, int key, DType dtype) {
  const Tensor index = arange(num_elements(shape)).astype(DType::kF32);
  return sin(index * (0.37 + 0.01 * key) + key).reshape(shape).astype(dtype);
}

std::vector<std::vector<float>> gradients(std::int64_t width, DType dtype, const Device& device) {
  const Device before = default_device();
  set_default_device(device);
  const std::vector<Tensor> operands = {some({1, 2, 40, width}, 1, dtype).eval(),
                                        some({1, 1, 50, width}, 2, dtype).eval(),
                                        some({1, 1, 50, width}, 3, dtype).eval()};
  const Tensor weight = some({1, 2, 40, width}, 4, dtype).eval();
  const auto loss = [&](const std::vector<Tensor>& x) {
    const Tensor attended = scaled_dot_product_attention(x[0], x[1], x[2], {.causal = true});
    return sum((attended * weight).astype(DType::kF32));
  };
  std::vector<Tensor> found = grad(loss)(operands);
  eval(found);
  std::vector<std::vector<float>> values;
  for (const Tensor& gradient : found) {
    values.push_back(gradient.astype(DType::kF32).to_vector<float>());
  }
  set_default_device(before);
  return values;
}

TEST(MetalAttention, GradientsOfWideHeads) {
  const Device device = registered_backend().device();
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const std::int64_t width : {64, 80, 128}) {
      const auto expected = gradients(width, dtype, Device::cpu());
      const auto actual = gradients(width, dtype, device);
      for (std::size_t i = 0; i < 3; ++i) {
        ASSERT_EQ(actual[i].size(), expected[i].size());
        float most = 0, worst = 0;
        for (std::size_t j = 0; j < actual[i].size(); ++j) {
          most = std::max(most, std::fabs(expected[i][j]));
          worst = std::max(worst, std::fabs(actual[i][j] - expected[i][j]));
        }
        EXPECT_LT(worst, 0.02f * most) << "gradient " << i << " of width " << width;
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::backend::metal
