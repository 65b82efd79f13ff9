// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matmul and Linear against sums of products in double.
#include <gtest/gtest.h>

#include <limits>

#include "kernel_harness.h"
#include "metal_candle/backend/cpu/product.h"

namespace metal_candle::backend::cpu::testing {
namespace {

double activate(op::Activation activation, double x) {
  switch (activation) {
    case op::Activation::kNone:
      return x;
    case op::Activation::kRelu:
      return std::max(x, 0.0);
    case op::Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case op::Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case op::Activation::kSilu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

Shape product_shape(const Shape& a, const Shape& b) {
  Shape batch_a = a, batch_b = b;
  for (Shape* s : {&batch_a, &batch_b}) {
    s->erase(s->rank() - 1);
    s->erase(s->rank() - 1);
  }
  Shape shape = broadcast_shapes("matmul", batch_a, batch_b);
  shape.push_back(a[a.rank() - 2]);
  shape.push_back(b.back());
  return shape;
}

// The row-major position of matrix `batch` of `out` in an operand that broadcasts.
std::int64_t matrix_position(const Shape& out, std::int64_t batch, const Shape& operand) {
  std::int64_t position = 0, step = operand.back() * operand[operand.rank() - 2];
  for (int axis = 3; axis <= out.rank(); ++axis) {
    const std::int64_t length = out[out.rank() - axis], index = batch % length;
    batch /= length;
    if (axis > operand.rank()) continue;
    const std::int64_t own = operand[operand.rank() - axis];
    if (own != 1) position += index * step;
    step *= own;
  }
  return position;
}

std::vector<double> reference(const Operand& a, const Operand& b, const Shape& out) {
  const std::int64_t m = out[out.rank() - 2], n = out.back(), k = a.shape().back();
  const std::vector<double> x = a.values(), w = b.values();
  std::vector<double> result(static_cast<std::size_t>(num_elements(out)));
  for (std::int64_t i = 0; i < num_elements(out); ++i) {
    const std::int64_t batch = i / (m * n), row = i / n % m, column = i % n;
    const std::int64_t xa = matrix_position(out, batch, a.shape()) + row * k;
    const std::int64_t wb = matrix_position(out, batch, b.shape()) + column;
    double sum = 0;
    for (std::int64_t p = 0; p < k; ++p) {
      sum += x[static_cast<std::size_t>(xa + p)] * w[static_cast<std::size_t>(wb + p * n)];
    }
    result[static_cast<std::size_t>(i)] = sum;
  }
  return result;
}

// What f32 accumulation of k products of normal variables may be off by.
double tolerance(std::int64_t k) { return 4e-7 * (4 + std::sqrt(static_cast<double>(k)) * 3); }

// Matrices whose rows, or columns if transposed, are contiguous, with a gap after each.
TensorLayout matrix_layout(const Shape& shape, DType dtype, bool transposed, std::int64_t gap = 0) {
  Shape order = shape;
  const int rank = shape.rank();
  if (transposed) std::swap(order[rank - 1], order[rank - 2]);
  Strides strides(shape.size(), 1);
  std::int64_t step = order.back() + gap;
  for (int i = rank - 2; i >= 0; --i) {
    strides[i] = step;
    step *= order[i];
  }
  if (transposed) std::swap(strides[rank - 1], strides[rank - 2]);
  return {shape, strides, dtype};
}

void check(const TensorLayout& a, const TensorLayout& b) {
  const Operand x = Operand::random(a, 1), w = Operand::random(b, 2);
  const Shape out = product_shape(a.shape, b.shape);
  const std::vector<double> expected = reference(x, w, out);
  std::vector<double> first;
  with_thread_counts([&](int threads) {
    const auto result = run_kernel(make_matmul, op::Matmul{}, {x, w}, {{out, a.dtype}});
    EXPECT_TRUE(near(result[0], expected, tolerance(a.shape.back())))
        << to_string(a.shape) << " @ " << to_string(b.shape) << " strides " << to_string(a.strides)
        << ' ' << to_string(b.strides) << ' ' << threads << " threads";
    if (first.empty()) first = result[0].values();
    EXPECT_EQ(result[0].values(), first) << "depends on the number of threads";
  });
}

TEST(MatmulKernel, SizesAndOrientations) {
  struct Size {
    std::int64_t m, k, n;
  };
  for (const DType dtype : kFloatingDTypes) {
    for (const Size s : {Size{1, 1, 1},
                         {1, 5, 3},
                         {1, 512, 8},
                         {1, 8, 512},
                         {1, 300, 700},
                         {2, 33, 17},
                         {3, 65, 40},
                         {5, 70, 1},
                         {7, 896, 90},
                         {8, 257, 130},
                         {9, 16, 16},
                         {13, 300, 47},
                         {40, 1, 40},
                         {64, 64, 1},
                         {100, 300, 200},
                         {270, 130, 70},
                         {17, 600, 33}}) {
      for (const bool ta : {false, true}) {
        for (const bool tb : {false, true}) {
          check(matrix_layout({s.m, s.k}, dtype, ta), matrix_layout({s.k, s.n}, dtype, tb));
          check(matrix_layout({s.m, s.k}, dtype, ta, 3), matrix_layout({s.k, s.n}, dtype, tb, 9));
        }
      }
    }
  }
}

// Before they are rounded, where they would show it. There are few rows more than blocks of some
// sizes have, for which other kernels add up in another order.
TEST(MatmulKernel, SumsDoNotDependOnThreads) {
  constexpr std::int64_t kRank = 8;
  for (const bool transposed : {false, true}) {
    for (const std::int64_t m : {9, 257, 520}) {
      const std::int64_t n = 130, k = 300;
      const Operand a = Operand::random(matrix_layout({m, k}, DType::kBF16, false), 1);
      const Operand b = Operand::random(matrix_layout({k, n}, DType::kBF16, transposed), 2);
      const Operand left = Operand::random(matrix_layout({m, kRank}, DType::kBF16, false), 3);
      const Operand right = Operand::random(matrix_layout({kRank, n}, DType::kBF16, transposed), 4);
      std::vector<float> first;
      with_thread_counts([&](int threads) {
        const auto matrix = [](const Operand& operand) {
          const Strides& strides = operand.layout().strides;
          return Matrix{operand.address(), DType::kBF16, strides[0], strides[1]};
        };
        std::vector<float> out(static_cast<std::size_t>(m * n));
        Product product;
        product.m = m;
        product.n = n;
        product.k = k;
        product.a = matrix(a);
        product.b = matrix(b);
        product.rank = kRank;
        product.left = matrix(left);
        product.right = matrix(right);
        product.out = out.data();
        run_product(product);
        if (first.empty()) first = out;
        EXPECT_EQ(out, first) << m << " rows, " << threads << " threads";
      });
    }
  }
}

TEST(MatmulKernel, LargeEnoughForSeveralBlocks) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool transposed : {false, true}) {
      check(matrix_layout({1, 300}, dtype, false), matrix_layout({300, 2500}, dtype, transposed));
      check(matrix_layout({2, 700}, dtype, false), matrix_layout({700, 2600}, dtype, transposed));
      check(matrix_layout({300, 530}, dtype, false), matrix_layout({530, 410}, dtype, transposed));
      check(matrix_layout({530, 70}, dtype, true), matrix_layout({70, 300}, dtype, transposed));
      check(matrix_layout({600, 64}, dtype, false), matrix_layout({64, 20}, dtype, transposed));
      // As many columns as the rank of an update has.
      check(matrix_layout({1100, 96}, dtype, false), matrix_layout({96, 16}, dtype, transposed));
      check(matrix_layout({700, 130}, dtype, true), matrix_layout({130, 17}, dtype, transposed));
      check(matrix_layout({30, 2100}, dtype, false), matrix_layout({2100, 300}, dtype, transposed));
    }
  }
}

TEST(MatmulKernel, Batches) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool t : {false, true}) {
      check(matrix_layout({3, 4, 5}, dtype, t), matrix_layout({3, 5, 6}, dtype, !t));
      check(matrix_layout({2, 3, 20, 30}, dtype, t), matrix_layout({30, 40}, dtype, t));
      check(matrix_layout({4, 1, 30}, dtype, t), matrix_layout({30, 40}, dtype, t));
      check(matrix_layout({20, 30}, dtype, t), matrix_layout({5, 30, 7}, dtype, t));
      check(matrix_layout({2, 1, 9, 10}, dtype, t), matrix_layout({1, 5, 10, 11}, dtype, t));
      check(matrix_layout({12, 50, 64}, dtype, t), matrix_layout({12, 64, 50}, dtype, t));
    }
  }
}

TEST(MatmulKernel, BatchesInOddPlaces) {
  for (const DType dtype : kFloatingDTypes) {
    // The last token of each sequence; heads between positions; a batch that runs backwards; one
    // that is repeated.
    check({{4, 1, 30}, {7 * 30, 30, 1}, dtype}, matrix_layout({30, 20}, dtype, true));
    check({{2, 3, 5, 8}, {120, 8, 24, 1}, dtype}, {{2, 3, 8, 5}, {120, 8, 1, 24}, dtype});
    check({{3, 4, 5}, {-20, 5, 1}, dtype}, matrix_layout({5, 6}, dtype, false));
    check({{3, 4, 5}, {0, 5, 1}, dtype}, matrix_layout({3, 5, 6}, dtype, false));
    check({{6, 4}, {0, 1}, dtype}, matrix_layout({4, 9}, dtype, false));
    check({{200, 64}, {0, 1}, dtype}, matrix_layout({64, 90}, dtype, false));
  }
}

TEST(MatmulKernel, ZeroSizes) {
  for (const DType dtype : kFloatingDTypes) {
    check(matrix_layout({0, 4}, dtype, false), matrix_layout({4, 3}, dtype, false));
    check(matrix_layout({4, 3}, dtype, false), matrix_layout({3, 0}, dtype, false));
    check(matrix_layout({2, 0}, dtype, false), matrix_layout({0, 3}, dtype, false));
    check(matrix_layout({20, 0}, dtype, false), matrix_layout({0, 1}, dtype, false));
    check(matrix_layout({0, 2, 3}, dtype, false), matrix_layout({3, 4}, dtype, false));
  }
}

TEST(MatmulKernel, InfinityAndNanStayWhereTheyBelong) {
  const double inf = std::numeric_limits<double>::infinity();
  for (const std::int64_t m : {1, 20, 120}) {
    Operand x = Operand::random(Shape{m, 70}, DType::kF32, 3);
    const Operand w = Operand::random(Shape{70, 64}, DType::kF32, 4);
    x.set(0, inf);
    const auto result = run_kernel(make_matmul, op::Matmul{}, {x, w}, {{{m, 64}, DType::kF32}});
    for (std::int64_t j = 0; j < 64; ++j) {
      EXPECT_EQ(result[0].get(j), w.get(j) > 0 ? inf : -inf);
      if (m > 1) {
        EXPECT_TRUE(std::isfinite(result[0].get(64 + j)));
      }
    }
  }
}

TEST(MatmulKernel, IntegersWrap) {
  for (const DType dtype : {DType::kU8, DType::kI8, DType::kI32, DType::kU32, DType::kI64}) {
    const Operand a = Operand::random(matrix_layout({2, 5, 300}, dtype, true), 5);
    const Operand b = Operand::random(matrix_layout({300, 270}, dtype, false), 6);
    if (dtype == DType::kU32) {
      // Small enough for the reference's doubles to be exact.
      for (std::int64_t i = 0; i < a.size(); ++i) a.set(i, static_cast<double>(i * 7919 % 70000));
      for (std::int64_t i = 0; i < b.size(); ++i) b.set(i, static_cast<double>(i * 104729 % 70000));
    }
    const auto result = run_kernel(make_matmul, op::Matmul{}, {a, b}, {{{2, 5, 270}, dtype}});
    const std::vector<double> expected = reference(a, b, {2, 5, 270});
    for (std::int64_t i = 0; i < result[0].size(); ++i) {
      auto sum = static_cast<std::int64_t>(expected[static_cast<std::size_t>(i)]);
      if (dtype == DType::kU8) sum = static_cast<std::uint8_t>(sum);
      if (dtype == DType::kI8) sum = static_cast<std::int8_t>(sum);
      if (dtype == DType::kU32) sum = static_cast<std::uint32_t>(sum);
      ASSERT_EQ(result[0].get(i), static_cast<double>(sum)) << name(dtype) << ' ' << i;
    }
  }
}

struct LinearCase {
  Shape x, weight;
  bool bias, residual;
  int in_place = -1;
};

void check_linear(const LinearCase& c, DType dtype, op::Activation activation, bool transposed) {
  const Operand x = Operand::random(c.x, dtype, 1);
  const Operand w = Operand::random(matrix_layout(c.weight, dtype, transposed), 2, 0.3);
  const Shape out = product_shape(c.x, c.weight);
  const float scale = 0.75f;
  std::vector<Operand> inputs{x, w};
  std::vector<double> expected = reference(x, w, out);
  const std::int64_t n = out.back();
  if (c.bias) inputs.push_back(Operand::random(Shape{n}, dtype, 3));
  if (c.residual) {
    inputs.push_back(c.in_place >= 0 ? Operand::random(out, dtype, 4)
                                     : Operand::random(padded_rows(out, dtype), 4));
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    double v = scale * expected[i];
    if (c.bias) v += inputs[2].get(static_cast<std::int64_t>(i) % n);
    v = activate(activation, v);
    if (c.residual) v += inputs.back().get(static_cast<std::int64_t>(i));
    expected[i] = v;
  }
  RunOptions options;
  options.in_place = c.in_place;
  const auto result = run_kernel(make_matmul, op::Linear{activation, c.bias, c.residual, scale},
                                 inputs, {{out, dtype}}, options);
  EXPECT_TRUE(near(result[0], expected, tolerance(c.weight[c.weight.rank() - 2])))
      << to_string(c.x) << " @ " << to_string(c.weight) << " bias " << c.bias << " residual "
      << c.residual;
}

TEST(LinearKernel, BiasActivationResidual) {
  for (const DType dtype : kFloatingDTypes) {
    for (const auto activation :
         {op::Activation::kNone, op::Activation::kRelu, op::Activation::kGelu,
          op::Activation::kGeluTanh, op::Activation::kSilu}) {
      for (const bool bias : {false, true}) {
        for (const bool residual : {false, true}) {
          check_linear({{3, 20}, {20, 37}, bias, residual}, dtype, activation, false);
          check_linear({{2, 30, 20}, {20, 37}, bias, residual}, dtype, activation, true);
          check_linear({{2, 5, 8}, {2, 8, 9}, bias, residual}, dtype, activation, false);
          check_linear({{40, 20}, {20, 1}, bias, residual}, dtype, activation, false);
        }
      }
    }
  }
}

TEST(LinearKernel, SeveralBlocks) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool transposed : {false, true}) {
      check_linear({{1, 300}, {300, 1500}, true, true}, dtype, op::Activation::kSilu, transposed);
      check_linear({{310, 290}, {290, 410}, true, true}, dtype, op::Activation::kGelu, transposed);
    }
  }
}

TEST(LinearKernel, OverItsResidual) {
  for (const DType dtype : kFloatingDTypes) {
    check_linear({{1, 300}, {300, 1500}, true, true, 3}, dtype, op::Activation::kSilu, false);
    check_linear({{310, 290}, {290, 410}, false, true, 2}, dtype, op::Activation::kNone, true);
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
