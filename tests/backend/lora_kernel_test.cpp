// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Lora and LoraLinear against their definitions in double.
#include <gtest/gtest.h>

#include "kernel_harness.h"

namespace metal_candle::backend::cpu::testing {
namespace {

using Matrix64 = std::vector<double>;

Matrix64 multiply(const Matrix64& a, const Matrix64& b, std::int64_t k, std::int64_t n) {
  const auto m = static_cast<std::int64_t>(a.size()) / std::max<std::int64_t>(k, 1);
  Matrix64 c(static_cast<std::size_t>(m * n));
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t p = 0; p < k; ++p) {
      const double x = a[static_cast<std::size_t>(i * k + p)];
      for (std::int64_t j = 0; j < n; ++j) {
        c[static_cast<std::size_t>(i * n + j)] += x * b[static_cast<std::size_t>(p * n + j)];
      }
    }
  }
  return c;
}

struct Case {
  Shape x;
  std::int64_t rank, n;
};

constexpr float kScale = 2.0f;

TensorLayout orientation(std::int64_t rows, std::int64_t columns, DType dtype, bool transposed) {
  return {{rows, columns}, transposed ? Strides{1, rows} : Strides{columns, 1}, dtype};
}

void check(const Case& c, DType dtype, bool transposed, const TensorLayout& x_layout) {
  const std::int64_t k = c.x.back();
  const Operand x = Operand::random(x_layout, 1);
  const Operand a = Operand::random(orientation(k, c.rank, dtype, transposed), 2, 0.1);
  const Operand b = Operand::random(orientation(c.rank, c.n, dtype, transposed), 3, 0.5);
  const Operand w = Operand::random(orientation(k, c.n, dtype, transposed), 4, 0.1);
  const Operand bias = Operand::random(Shape{c.n}, dtype, 5);
  Shape out = c.x;
  out.back() = c.n;
  const std::string what = to_string(c.x) + " rank " + std::to_string(c.rank) + " n " +
                           std::to_string(c.n) + (transposed ? " transposed" : "");

  Matrix64 scaled_low = multiply(x.values(), a.values(), k, c.rank);
  for (double& v : scaled_low) v *= kScale;
  Shape low_shape = out;
  low_shape.back() = c.rank;
  Matrix64 low = multiply(multiply(x.values(), a.values(), k, c.rank), b.values(), c.rank, c.n);
  for (double& v : low) v *= kScale;
  Matrix64 full = multiply(x.values(), w.values(), k, c.n);
  for (std::size_t i = 0; i < full.size(); ++i) full[i] += low[i];
  Matrix64 with_bias = full;
  for (std::size_t i = 0; i < full.size(); ++i) {
    with_bias[i] += bias.get(static_cast<std::int64_t>(i) % c.n);
  }
  std::vector<double> first;
  with_thread_counts([&](int) {
    const TensorSpec spec{out, dtype};
    const auto lora = run_kernel(make_lora, op::Lora{kScale}, {x, a, b}, {spec});
    EXPECT_TRUE(near(lora[0], low, 2e-5)) << "lora " << what;
    const auto linear = run_kernel(make_lora, op::LoraLinear{kScale, false}, {x, w, a, b}, {spec});
    EXPECT_TRUE(near(linear[0], full, 2e-5)) << "lora_linear " << what;
    const auto biased =
        run_kernel(make_lora, op::LoraLinear{kScale, true}, {x, w, a, b, bias}, {spec});
    EXPECT_TRUE(near(biased[0], with_bias, 2e-5)) << "lora_linear with bias " << what;
    const auto kept = run_kernel(make_lora, op::LoraLinear{kScale, true, true}, {x, w, a, b, bias},
                                 {spec, TensorSpec{low_shape, dtype}});
    EXPECT_EQ(kept[0].values(), biased[0].values()) << "what is kept changes the result " << what;
    EXPECT_TRUE(near(kept[1], scaled_low, 2e-5)) << "what is kept " << what;
    if (first.empty()) first = biased[0].values();
    EXPECT_EQ(biased[0].values(), first) << "depends on the number of threads";
  });
}

TEST(LoraKernel, Sizes) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool transposed : {false, true}) {
      for (const Case& c : {Case{{1, 512}, 8, 512},
                            {{1, 7}, 1, 3},
                            {{3, 100}, 4, 65},
                            {{5, 64}, 12, 700},
                            {{2, 20, 96}, 16, 130},
                            {{300, 200}, 64, 150},
                            {{2, 1, 33}, 5, 20},
                            {{70, 200}, 8, 150},
                            {{16, 33}, 3, 20},
                            {{33, 100}, 13, 70},
                            {{40, 64}, 16, 70},
                            {{2, 20, 65}, 1, 40},
                            {{0, 8}, 2, 4}}) {
        check(c, dtype, transposed, TensorLayout::contiguous({c.x, dtype}));
      }
    }
  }
}

TEST(LoraKernel, InputsInOddPlaces) {
  for (const DType dtype : kFloatingDTypes) {
    // The last token of each sequence, and batches that are not one after the other.
    check({{4, 1, 30}, 8, 20}, dtype, false, {{4, 1, 30}, {210, 30, 1}, dtype});
    check({{3, 5, 30}, 8, 20}, dtype, true, {{3, 5, 30}, {300, 30, 1}, dtype});
    check({{2, 3, 4, 8}, 2, 9}, dtype, false, padded_rows({2, 3, 4, 8}, dtype));
    check({{6, 50}, 4, 31}, dtype, false, {{6, 50}, {1, 6}, dtype});
    check({{40, 50}, 8, 31}, dtype, false, {{40, 50}, {64, 1}, dtype});
    check({{40, 50}, 8, 31}, dtype, true, {{40, 50}, {1, 40}, dtype});
    check({{3, 20, 30}, 6, 20}, dtype, true, {{3, 20, 30}, {1, 90, 3}, dtype});
    check({{3, 20, 30}, 6, 20}, dtype, true, {{3, 20, 30}, {1000, 31, 1}, dtype});
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
