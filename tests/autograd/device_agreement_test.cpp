// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A device against the CPU, at sizes and dtypes that reach the kernels which only large operands
// get: attention by wide products, sums of products, rows of the loss, LoRA of few rows. On the CPU
// there is nothing to compare. The cases are what compute-sanitizer is run over (CONTRIBUTING.md).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

using Tensors = std::vector<Tensor>;
using Case = std::function<Tensors(Device)>;

Tensor normal(const Shape& shape, DType dtype, Device device, std::uint64_t seed, float scale = 1) {
  return (random::normal(shape, random::key(seed, device), dtype) * scale).eval();
}

// The length of the difference over that of what is expected.
double distance(const Tensor& actual, const Tensor& expected) {
  const auto a = actual.astype(DType::kF32).to_vector<float>();
  const auto b = expected.astype(DType::kF32).to_vector<float>();
  double difference = 0, length = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(double{a[i]} - double{b[i]}, 2);
    length += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(difference / (length + 1e-12));
}

class DeviceAgreement : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (default_device() == Device::cpu()) GTEST_SKIP() << "there is only the CPU";
  }
  // Sums of thousands of terms in another order.
  void expect_agreement(const Case& compute) const {
    const Tensors actual = compute(default_device()), expected = compute(Device::cpu());
    eval(actual);
    eval(expected);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      // Not "less than", which NaN is not.
      EXPECT_TRUE(distance(actual[i], expected[i]) < (GetParam() == DType::kF32 ? 1e-4 : 3e-2))
          << "output " << i << ": " << distance(actual[i], expected[i]);
    }
  }
};

TEST_P(DeviceAgreement, Attention) {
  const DType dtype = GetParam();
  for (const std::int64_t width : {64, 128}) {
    for (const std::int64_t length : {64, 150}) {
      SCOPED_TRACE(std::to_string(width) + " wide, " + std::to_string(length) + " long");
      expect_agreement([&](Device device) {
        const Tensor q = normal({1, 4, length, width}, dtype, device, 1);
        const Tensor k = normal({1, 2, length, width}, dtype, device, 2);
        const Tensor v = normal({1, 2, length, width}, dtype, device, 3);
        const Tensor weight = normal({1, 4, length, width}, dtype, device, 4);
        const auto attend = [](const Tensors& x) {
          return scaled_dot_product_attention(x[0], x[1], x[2], {.causal = true});
        };
        const auto loss = [&](const Tensors& x) {
          return sum((attend(x) * weight).astype(DType::kF32));
        };
        Tensors results = grad(loss)(Tensors{q, k, v});
        results.push_back(attend({q, k, v}));
        return results;
      });
    }
  }
}

TEST_P(DeviceAgreement, LinearCrossEntropy) {
  expect_agreement([&](Device device) {
    const Tensor x = normal({70, 128}, GetParam(), device, 1);
    const Tensor weight = normal({128, 3001}, GetParam(), device, 2, 0.1f);
    std::vector<std::int32_t> targets(70);
    for (std::size_t i = 0; i < targets.size(); ++i) {
      targets[i] = static_cast<std::int32_t>(i * 41 % 3001);
    }
    const Tensor y = Tensor(std::span<const std::int32_t>(targets), Shape{70}).to(device);
    const auto result =
        value_and_grad([&](const Tensor& a) { return linear_cross_entropy(a, weight, y); })(x);
    return Tensors{result.value, result.gradient};
  });
}

TEST_P(DeviceAgreement, NormsAndSoftmax) {
  expect_agreement([&](Device device) {
    const Tensor x = normal({40, 896}, GetParam(), device, 1);
    const Tensor weight = normal({896}, GetParam(), device, 2);
    const Tensor bias = normal({896}, GetParam(), device, 3);
    const Tensor scale = normal({40, 896}, GetParam(), device, 4);
    Tensors results = grad([&](const Tensors& a) {
      const Tensor y = rms_norm(a[0], a[1]) + layer_norm(a[0], a[1], a[2]);
      return sum((y * scale).astype(DType::kF32));
    })(Tensors{x, weight, bias});
    results.insert(results.end(), {softmax(x, -1), softmax(x, 0), log_softmax(x, -1)});
    return results;
  });
}

// What q, k and v read is the sum of three products; so is what the gate and its partner read.
TEST_P(DeviceAgreement, ProductsAndGates) {
  expect_agreement([&](Device device) {
    const auto matrix = [&](std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
      return normal({rows, columns}, GetParam(), device, seed, 0.06f);
    };
    const Tensor x = normal({96, 256}, GetParam(), device, 1);
    const Tensor q = matrix(256, 256, 2), k = matrix(256, 128, 3), v = matrix(256, 128, 4);
    const Tensor up = matrix(256, 320, 5), gate = matrix(256, 320, 6), down = matrix(320, 256, 7);
    const auto result = value_and_grad([&](const Tensor& a) {
      const Tensor y = a + matmul(a, q) * concatenate({matmul(a, k), matmul(a, v)}, -1);
      const Tensor z = matmul(swiglu(matmul(y, gate), matmul(y, up)), down);
      return sum((y + z).astype(DType::kF32));
    })(x);
    return Tensors{result.value, result.gradient};
  });
}

TEST_P(DeviceAgreement, Lora) {
  for (const auto& [rows, depth, rank] :
       {std::tuple(2, 40, 1), std::tuple(2, 512, 8), std::tuple(2, 2200, 16), std::tuple(9, 40, 4),
        std::tuple(16, 4096, 8), std::tuple(130, 512, 64), std::tuple(1100, 516, 12)}) {
    SCOPED_TRACE(std::to_string(depth) + " deep, rank " + std::to_string(rank));
    expect_agreement([&, rows = rows, depth = depth, rank = rank](Device device) {
      const Tensor x = normal({rows, depth}, GetParam(), device, 1);
      const Tensor a = normal({depth, rank}, GetParam(), device, 2);
      const Tensor b = normal({rank, 600}, GetParam(), device, 3);
      const Tensor columns = normal({rank, depth}, GetParam(), device, 4);
      return Tensors{matmul(matmul(x, a), b) * 0.5f,
                     matmul(matmul(x, transpose(columns)), b) * 0.5f};
    });
  }
}

// Programs that only a reduction reads, along rows, down columns, and of everything.
TEST_P(DeviceAgreement, ReductionsOfPrograms) {
  for (const Shape& shape : {Shape{33, 600}, Shape{4099, 5}, Shape{300, 1024}}) {
    SCOPED_TRACE(to_string(shape));
    expect_agreement([&](Device device) {
      const Tensor x = normal(shape, GetParam(), device, 1),
                   y = normal(shape, GetParam(), device, 2);
      const Tensor row = normal({shape[1]}, GetParam(), device, 3);
      const Tensor wide = x.astype(DType::kF32);
      return Tensors{sum(square(wide - row.astype(DType::kF32)), {0}, false),
                     mean(abs(x.astype(DType::kF32) * y.astype(DType::kF32)), {1}, false),
                     sum(exp(wide * 0.1f)),
                     max(tanh(x) * y, {1}, true),
                     astype(any(x > y, {0}, false), DType::kF32),
                     sum(square(transpose(wide)), {0}, false)};
    });
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, DeviceAgreement,
                         ::testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& of) { return std::string(name(of.param)); });

}  // namespace
}  // namespace metal_candle
