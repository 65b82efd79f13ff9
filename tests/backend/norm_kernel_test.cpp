// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The norm kernels and their gradients against formulas in double.
#include <gtest/gtest.h>

#include "kernel_harness.h"

namespace metal_candle::backend::cpu::testing {
namespace {

constexpr double kEps = 1e-5;

Operation forward(bool layer) {
  if (layer) return op::LayerNorm{static_cast<float>(kEps)};
  return op::RmsNorm{static_cast<float>(kEps)};
}
Operation backward(bool layer) {
  if (layer) return op::LayerNormBackward{static_cast<float>(kEps)};
  return op::RmsNormBackward{static_cast<float>(kEps)};
}

struct Row {
  double mean = 0, scale = 0;
  Row(bool layer, const Operand& x, std::int64_t first, std::int64_t n) {
    double squares = 0;
    for (std::int64_t i = 0; layer && i < n; ++i) mean += x.get(first + i) / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) squares += std::pow(x.get(first + i) - mean, 2);
    scale = 1 / std::sqrt(squares / static_cast<double>(n) +
                          static_cast<double>(static_cast<float>(kEps)));
  }
};

std::vector<double> reference(bool layer, const Operand& x, const Operand* weight,
                              const Operand* bias) {
  const std::int64_t n = x.shape().back();
  std::vector<double> out;
  for (std::int64_t first = 0; first < x.size(); first += n) {
    const Row row(layer, x, first, n);
    for (std::int64_t i = 0; i < n; ++i) {
      out.push_back((x.get(first + i) - row.mean) * row.scale * (weight ? weight->get(i) : 1) +
                    (bias ? bias->get(i) : 0));
    }
  }
  return out;
}

struct Gradients {
  std::vector<double> dx, dweight;
};

// From the definition: dx_j = sum_i g_i d(normal_i)/d(x_j).
Gradients reference_gradients(bool layer, const Operand& x, const Operand* weight,
                              const Operand& dy) {
  const std::int64_t n = x.shape().back();
  Gradients result;
  result.dweight.resize(static_cast<std::size_t>(n));
  for (std::int64_t first = 0; first < x.size(); first += n) {
    const Row row(layer, x, first, n);
    double mean_g = 0, mean_gn = 0;
    const auto g = [&](std::int64_t i) {
      return dy.get(first + i) * (weight ? weight->get(i) : 1);
    };
    const auto normal = [&](std::int64_t i) { return (x.get(first + i) - row.mean) * row.scale; };
    for (std::int64_t i = 0; i < n; ++i) {
      mean_g += layer ? g(i) / static_cast<double>(n) : 0;
      mean_gn += g(i) * normal(i) / static_cast<double>(n);
      result.dweight[static_cast<std::size_t>(i)] += dy.get(first + i) * normal(i);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      result.dx.push_back(row.scale * (g(i) - mean_g - normal(i) * mean_gn));
    }
  }
  return result;
}

void check_forward(bool layer, const TensorLayout& layout, DType weight_dtype, int extras) {
  const Shape row{layout.shape.back()};
  const Operand x = Operand::random(layout, 1, 2);
  const Operand weight = Operand::random(row, weight_dtype, 2),
                bias = Operand::random(row, weight_dtype, 3);
  std::vector<Operand> inputs = {x, weight, bias};
  inputs.resize(1 + static_cast<std::size_t>(extras), x);
  const auto out =
      run_kernel(make_norm, forward(layer), inputs, {TensorSpec{layout.shape, layout.dtype}});
  const auto expected =
      reference(layer, x, extras > 0 ? &weight : nullptr, extras > 1 ? &bias : nullptr);
  EXPECT_TRUE(near(out[0], expected))
      << "layer " << layer << ' ' << to_string(layout.shape) << ' ' << extras;
}

TEST(NormKernel, RowsOfAnyLength) {
  for (const DType dtype : kFloatingDTypes) {
    for (const std::int64_t n : {1, 3, 7, 8, 17, 1000, 4097, 20000}) {
      const auto layout = TensorLayout::contiguous({Shape{5, n}, dtype});
      // The outcome for one element is all rounding: (x - mean) is 0.
      for (int extras = 0; extras < 3 && n > 1; ++extras)
        check_forward(true, layout, dtype, extras);
      for (int extras = 0; extras < 2; ++extras) check_forward(false, layout, dtype, extras);
      check_forward(false, layout, DType::kF32, 1);
      check_forward(true, layout, DType::kF32, 2);
    }
  }
}

TEST(NormKernel, StridedRows) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool layer : {false, true}) {
      check_forward(layer, padded_rows(Shape{3, 4, 65}, dtype), dtype, 1);
    }
  }
}

TEST(NormKernel, ZeroSizes) {
  for (const bool layer : {false, true}) {
    for (const Shape& shape : {Shape{0, 4}, Shape{3, 0}}) {
      const auto out = run_kernel(make_norm, forward(layer), {Operand(shape, DType::kF32)},
                                  {TensorSpec{shape, DType::kF32}});
      EXPECT_EQ(out[0].size(), 0);
    }
  }
}

// A large mean next to a small spread loses everything when squares are summed uncentred.
TEST(NormKernel, LayerNormOfAShiftedRow) {
  Operand x(Shape{1, 512}, DType::kF32);
  for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, 4096 + (i % 2 ? 0.25 : -0.25));
  const auto out = run_kernel(make_norm, forward(true), {x}, {TensorSpec{x.shape(), DType::kF32}});
  EXPECT_TRUE(near(out[0], reference(true, x, nullptr, nullptr), 1e-5));
}

TEST(NormKernel, StreamedOutput) {
  for (const bool layer : {false, true}) {
    check_forward(layer, TensorLayout::contiguous({Shape{1100, 4096}, DType::kF32}), DType::kF32,
                  1);
  }
}

TEST(NormKernel, InPlaceEqualsOutOfPlace) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool layer : {false, true}) {
      const Shape shape{9, 100};
      const TensorSpec spec{shape, dtype};
      const Operand weight = Operand::random(Shape{100}, dtype, 8),
                    dy = Operand::random(shape, dtype, 6);
      const auto apart =
          run_kernel(make_norm, forward(layer), {Operand::random(shape, dtype, 5), weight}, {spec});
      const auto over =
          run_kernel(make_norm, forward(layer), {Operand::random(shape, dtype, 5), weight}, {spec},
                     {.in_place = 0});
      EXPECT_EQ(over[0].values(), apart[0].values());
      const TensorSpec dweight{Shape{100}, dtype};
      const auto expected =
          run_kernel(make_norm, backward(layer), {Operand::random(shape, dtype, 5), weight, dy},
                     {spec, dweight});
      for (const int input : {0, 2}) {
        const auto result =
            run_kernel(make_norm, backward(layer),
                       {Operand::random(shape, dtype, 5), weight, Operand::random(shape, dtype, 6)},
                       {spec, dweight}, {.in_place = input});
        EXPECT_EQ(result[0].values(), expected[0].values());
        EXPECT_EQ(result[1].values(), expected[1].values());
      }
    }
  }
}

void check_backward(bool layer, const TensorLayout& layout, DType weight_dtype) {
  const Shape row{layout.shape.back()};
  const Operand x = Operand::random(layout, 1, 2), dy = Operand::random(layout, 2);
  const Operand weight = Operand::random(row, weight_dtype, 3);
  const TensorSpec dx{layout.shape, layout.dtype}, dweight{row, weight_dtype};
  const Gradients expected = reference_gradients(layer, x, &weight, dy);
  const auto rows = static_cast<double>(x.size() / std::max<std::int64_t>(1, row[0]));
  const auto both = run_kernel(make_norm, backward(layer), {x, weight, dy}, {dx, dweight});
  EXPECT_TRUE(near(both[0], expected.dx, 2e-5)) << to_string(layout.shape);
  EXPECT_TRUE(near(both[1], expected.dweight, 1e-6 * (10 + rows))) << to_string(layout.shape);

  const auto first = run_kernel(make_norm, backward(layer), {x, weight, dy}, {dx, dweight},
                                {.needed = {true, false}});
  EXPECT_EQ(first[0].values(), both[0].values());
  const auto second = run_kernel(make_norm, backward(layer), {x, weight, dy}, {dx, dweight},
                                 {.needed = {false, true}});
  EXPECT_EQ(second[1].values(), both[1].values());

  if (!layer) {
    const Operand residual = Operand::random(dx.shape, layout.dtype, 4);
    const auto sum = run_kernel(make_norm, op::RmsNormBackward{static_cast<float>(kEps), true},
                                {x, weight, dy, residual}, {dx, dweight});
    std::vector<double> expected_sum = expected.dx;
    for (std::size_t i = 0; i < expected_sum.size(); ++i) {
      expected_sum[i] += residual.get(static_cast<std::int64_t>(i));
    }
    EXPECT_TRUE(near(sum[0], expected_sum, 2e-5)) << "with a residual " << to_string(layout.shape);
    EXPECT_EQ(sum[1].values(), both[1].values());
  }

  const auto bare = run_kernel(make_norm, backward(layer), {x, dy}, {dx});
  EXPECT_TRUE(near(bare[0], reference_gradients(layer, x, nullptr, dy).dx, 2e-5));
}

TEST(NormKernel, Backward) {
  for (const bool layer : {false, true}) {
    for (const DType dtype : kFloatingDTypes) {
      for (const std::int64_t n : {2, 3, 7, 8, 17, 1000, 4097}) {
        // Rows of two or three normalise to almost the same values, and dx is all cancellation.
        if (layer && n < 7) continue;
        check_backward(layer, TensorLayout::contiguous({Shape{11, n}, dtype}), dtype);
      }
      check_backward(layer, TensorLayout::contiguous({Shape{300, 40}, dtype}), DType::kF32);
      check_backward(layer, padded_rows(Shape{3, 4, 65}, dtype), dtype);
    }
  }
}

TEST(NormKernel, BackwardWithoutRowsGivesAZeroGradient) {
  const Operand x(Shape{0, 4}, DType::kF32);
  const auto out =
      run_kernel(make_norm, backward(false), {x, Operand::random(Shape{4}, DType::kF32, 1), x},
                 {TensorSpec{Shape{0, 4}, DType::kF32}, TensorSpec{Shape{4}, DType::kF32}});
  EXPECT_EQ(out[1].values(), std::vector<double>(4, 0.0));
}

TEST(NormKernel, ThreadsDoNotChangeTheResult) {
  const Shape shape{3000, 96};
  std::vector<double> first;
  with_thread_counts([&](int threads) {
    const Operand x = Operand::random(shape, DType::kF32, 5),
                  dy = Operand::random(shape, DType::kF32, 6);
    const auto out =
        run_kernel(make_norm, backward(true), {x, Operand::random(Shape{96}, DType::kF32, 1), dy},
                   {TensorSpec{shape, DType::kF32}, TensorSpec{Shape{96}, DType::kF32}});
    if (threads == 1) first = out[1].values();
    EXPECT_EQ(out[1].values(), first);
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
