// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// On CUDA the first runs of an elementwise program are interpreted while it is compiled: they give
// what later ones give, to the bit. (Other devices run the same kernel each time.)
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "metal_candle/backend/registry.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

using Function = std::function<Tensor(const Tensor&, const Tensor&)>;

template <Tensor (*kFunction)(const Tensor&)>
Function unary() {
  return [](const Tensor& a, const Tensor&) { return kFunction(a); };
}
template <Tensor (*kFunction)(const Operand&, const Operand&)>
Function binary() {
  return [](const Tensor& a, const Tensor& b) { return kFunction(a, b); };
}

class FirstRunsTest : public ::testing::Test {
 protected:
  // Nothing was compiled before.
  FirstRunsTest() { setenv("METAL_CANDLE_CACHE", cache_.path().c_str(), 1); }
  ~FirstRunsTest() override { unsetenv("METAL_CANDLE_CACHE"); }

  static Tensor operand(const Shape& shape, std::uint32_t seed, DType dtype) {
    std::vector<float> values;
    std::uint32_t state = seed;
    for (std::int64_t i = 0; i < num_elements(shape); ++i) {
      state = state * 1664525 + 1013904223;
      values.push_back(static_cast<float>(state >> 8) * 0x1p-22f - 2);
    }
    // What is not finite, and zeros, take ways of their own.
    values[0] = INFINITY;
    values[1] = NAN;
    values[2] = 0;
    return astype(Tensor(values, shape), dtype).to(default_device()).eval();
  }

  static void expect_same(const std::vector<Function>& functions, DType dtype) {
    const Tensor a = operand({37, 131}, 1, dtype), b = operand({131}, 2, dtype);
    backend::Backend& backend = backend::backend_for(default_device());
    for (std::size_t f = 0; f < functions.size(); ++f) {
      const auto run = [&] {
        const Tensor y = functions[f](a, b).eval();
        return astype(y, DType::kF32).to(Device::cpu()).to_vector<float>();
      };
      const std::vector<float> first = run();
      backend.finish_compiling();
      const std::vector<float> later = run();
      ASSERT_EQ(first.size(), later.size());
      for (std::size_t i = 0; i < first.size(); ++i) {
        if (std::isnan(first[i]) && std::isnan(later[i])) continue;
        ASSERT_EQ(std::bit_cast<std::uint32_t>(first[i]), std::bit_cast<std::uint32_t>(later[i]))
            << "function " << f << " of " << name(dtype) << " at " << i << ": " << first[i]
            << " and then " << later[i];
      }
    }
  }

  const testing::TemporaryFolder cache_;
};

TEST_F(FirstRunsTest, FunctionsOneByOne) {
  const std::vector<Function> functions = {
      unary<abs>(),           unary<negative>(),   unary<sign>(),       unary<square>(),
      unary<floor>(),         unary<ceil>(),       unary<round>(),      unary<trunc>(),
      unary<exp>(),           unary<expm1>(),      unary<log>(),        unary<log1p>(),
      unary<log2>(),          unary<log10>(),      unary<sqrt>(),       unary<rsqrt>(),
      unary<reciprocal>(),    unary<sin>(),        unary<cos>(),        unary<tan>(),
      unary<asin>(),          unary<acos>(),       unary<atan>(),       unary<sinh>(),
      unary<cosh>(),          unary<tanh>(),       unary<asinh>(),      unary<acosh>(),
      unary<atanh>(),         unary<erf>(),        unary<erfinv>(),     unary<sigmoid>(),
      unary<relu>(),          unary<silu>(),       unary<gelu>(),       unary<gelu_tanh>(),
      unary<isnan>(),         unary<isinf>(),      unary<isfinite>(),   unary<logical_not>(),
      binary<add>(),          binary<subtract>(),  binary<multiply>(),  binary<divide>(),
      binary<floor_divide>(), binary<remainder>(), binary<power>(),     binary<maximum>(),
      binary<minimum>(),      binary<atan2>(),     binary<logaddexp>(), binary<hypot>(),
      binary<copysign>(),
  };
  for (const DType dtype : {DType::kF32, DType::kBF16}) expect_same(functions, dtype);
}

// Where a compiler may join what an interpreter does one after another: products and sums.
TEST_F(FirstRunsTest, Programs) {
  const std::vector<Function> functions = {
      [](const Tensor& a, const Tensor& b) { return a * b + a; },
      [](const Tensor& a, const Tensor& b) { return a * b - b * a * 0.3f + a * a; },
      [](const Tensor& a, const Tensor& b) { return a * sigmoid(a) + b * a; },
      [](const Tensor& a, const Tensor& b) { return where(a * 1.1f > b, exp(a) * b, tanh(b) - a); },
      [](const Tensor& a, const Tensor& b) {
        Tensor y = a;
        for (int i = 0; i < 8; ++i) y = maximum(y * b + a, 0.0f);
        return y;
      },
      [](const Tensor& a, const Tensor& b) {
        const Tensor x = astype(a, DType::kF32) / 3.0f;
        return astype(gelu(x) * 1.7f + x, DType::kBF16) * astype(b, DType::kBF16);
      },
      [](const Tensor& a, const Tensor& b) { return silu(a * 0.7f) * (a + b); },
  };
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) expect_same(functions, dtype);
}

}  // namespace
}  // namespace metal_candle
