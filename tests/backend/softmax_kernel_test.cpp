// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The softmax kernels against sums of exponentials in double.
#include <gtest/gtest.h>

#include <limits>

#include "kernel_harness.h"

namespace metal_candle::backend::cpu::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Lines {
  std::int64_t outer = 1, n = 1, inner = 1;
  Lines(const Shape& shape, int axis) : n(shape[axis]) {
    for (int i = 0; i < axis; ++i) outer *= shape[i];
    for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  }
  // Calls fn(positions of a line's elements, number of the line).
  template <typename Fn>
  void each(Fn fn) const {
    for (std::int64_t o = 0; o < outer; ++o) {
      for (std::int64_t c = 0; c < inner; ++c) {
        std::vector<std::int64_t> line;
        for (std::int64_t a = 0; a < n; ++a) line.push_back((o * n + a) * inner + c);
        fn(line, static_cast<std::size_t>(o * inner + c));
      }
    }
  }
};

double log_sum_exp(const Operand& x, const std::vector<std::int64_t>& line) {
  double max = -kInf, sum = 0;
  for (const auto i : line) max = std::max(max, x.get(i));
  if (std::isinf(max)) max = 0;
  for (const auto i : line) sum += std::exp(x.get(i) - max);
  return max + std::log(sum);
}

std::vector<double> reference(const Operation& operation, const Operand& x, int axis) {
  const bool log = std::holds_alternative<op::LogSoftmax>(operation);
  std::vector<double> result(static_cast<std::size_t>(x.size()));
  Lines(x.shape(), axis).each([&](const auto& line, std::size_t) {
    const double lse = log_sum_exp(x, line);
    for (const auto i : line) {
      const double v = x.get(i) - lse;
      result[static_cast<std::size_t>(i)] = log ? v : std::exp(v);
    }
  });
  return result;
}

std::vector<double> reference_log_sum_exp(const Operand& x, int axis) {
  const Lines lines(x.shape(), axis);
  std::vector<double> result(static_cast<std::size_t>(lines.outer * lines.inner));
  lines.each([&](const auto& line, std::size_t i) { result[i] = log_sum_exp(x, line); });
  return result;
}

Shape without(Shape shape, int axis) {
  shape.erase(axis);
  return shape;
}

void check_forward(const Operand& x, int axis) {
  const std::string what = to_string(x.shape()) + " axis " + std::to_string(axis);
  const TensorSpec spec{x.shape(), x.layout().dtype};
  for (const Operation& operation :
       {Operation(op::Softmax{axis}), Operation(op::LogSoftmax{axis})}) {
    const auto out = run_kernel(make_softmax, operation, {x}, {spec});
    EXPECT_TRUE(near(out[0], reference(operation, x, axis), 4e-6)) << what;
  }
  const auto out = run_kernel(make_softmax, op::LogSumExp{axis, false}, {x},
                              {TensorSpec{without(x.shape(), axis), spec.dtype}});
  EXPECT_TRUE(near(out[0], reference_log_sum_exp(x, axis), 2e-6)) << what;
}

TEST(SoftmaxKernel, RowsOfAnyLength) {
  for (const DType dtype : kFloatingDTypes) {
    for (const std::int64_t n : {1, 3, 7, 8, 17, 1000, 4097, 8192, 8193, 40000}) {
      check_forward(Operand::random(Shape{3, n}, dtype, 7, 3), 1);
    }
  }
}

TEST(SoftmaxKernel, AnyAxis) {
  for (const DType dtype : kFloatingDTypes) {
    for (const Shape& shape : {Shape{5, 3, 17}, Shape{4, 9, 300}, Shape{1, 2, 1}, Shape{3, 1, 8}}) {
      for (int axis = 0; axis < 3; ++axis) check_forward(Operand::random(shape, dtype, 3, 2), axis);
    }
  }
}

TEST(SoftmaxKernel, StridedRows) {
  for (const DType dtype : kFloatingDTypes) {
    for (int axis = 0; axis < 3; ++axis) {
      check_forward(Operand::random(padded_rows(Shape{3, 5, 33}, dtype), 11, 2), axis);
    }
  }
}

TEST(SoftmaxKernel, ZeroSizes) {
  for (const Shape& shape : {Shape{0, 4}, Shape{3, 0}, Shape{2, 0, 3}}) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      const auto out = run_kernel(make_softmax, op::Softmax{axis}, {Operand(shape, DType::kF32)},
                                  {TensorSpec{shape, DType::kF32}});
      EXPECT_EQ(out[0].size(), 0);
    }
  }
  const auto lse =
      run_kernel(make_softmax, op::LogSumExp{1, true}, {Operand(Shape{2, 0}, DType::kF32)},
                 {TensorSpec{Shape{2, 1}, DType::kF32}});
  EXPECT_TRUE(near(lse[0], {-kInf, -kInf}));
}

// Short rows, long rows and columns take different code.
TEST(SoftmaxKernel, InfinitiesAndNan) {
  for (const std::int64_t n : {5, 64, 20000}) {
    for (const bool columns : {false, true}) {
      const Shape shape = columns ? Shape{n, 4} : Shape{4, n};
      const auto at = [&](std::int64_t row, std::int64_t i) {
        return columns ? i * 4 + row : row * n + i;
      };
      Operand x(shape, DType::kF32);
      for (std::int64_t i = 0; i < n; ++i) {
        x.set(at(0, i), -kInf);
        x.set(at(1, i), i == 3 ? kInf : 1.0);
        x.set(at(2, i), i == 2 ? kNan : 1.0);
        x.set(at(3, i), i == 1 ? 2.0 : -kInf);
      }
      const int axis = columns ? 0 : 1;
      const TensorSpec spec{shape, DType::kF32};
      const auto y = run_kernel(make_softmax, op::Softmax{axis}, {x}, {spec})[0];
      const auto l = run_kernel(make_softmax, op::LogSoftmax{axis}, {x}, {spec})[0];
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t row = 0; row < 3; ++row) {
          EXPECT_TRUE(std::isnan(y.get(at(row, i)))) << n << ' ' << row << ' ' << i;
          EXPECT_TRUE(row == 1 || std::isnan(l.get(at(row, i)))) << n << ' ' << row << ' ' << i;
        }
        EXPECT_EQ(y.get(at(3, i)), i == 1 ? 1 : 0);
        EXPECT_EQ(l.get(at(3, i)), i == 1 ? 0 : -kInf);
      }
      const auto lse = run_kernel(make_softmax, op::LogSumExp{axis, false}, {x},
                                  {TensorSpec{Shape{4}, DType::kF32}})[0];
      EXPECT_TRUE(near(lse, {-kInf, kInf, kNan, 2.0})) << n;
    }
  }
}

TEST(SoftmaxKernel, LargeValuesDoNotOverflow) {
  const Operand x = Operand::of(Shape{4}, DType::kF32, {3e38, 3e38, -3e38, 0});
  const auto y = run_kernel(make_softmax, op::Softmax{0}, {x}, {TensorSpec{Shape{4}, DType::kF32}});
  EXPECT_TRUE(near(y[0], {0.5, 0.5, 0, 0}));
}

TEST(SoftmaxKernel, InPlaceEqualsOutOfPlace) {
  for (const DType dtype : kFloatingDTypes) {
    for (const Shape& shape : {Shape{5, 100}, Shape{2, 20000}, Shape{100, 3, 7}}) {
      for (int axis = 0; axis < shape.rank(); ++axis) {
        for (const Operation& operation :
             {Operation(op::Softmax{axis}), Operation(op::LogSoftmax{axis})}) {
          const TensorSpec spec{shape, dtype};
          const auto apart =
              run_kernel(make_softmax, operation, {Operand::random(shape, dtype, 5)}, {spec});
          const auto over = run_kernel(make_softmax, operation, {Operand::random(shape, dtype, 5)},
                                       {spec}, {.in_place = 0});
          EXPECT_EQ(apart[0].values(), over[0].values());
        }
      }
    }
  }
}

// Larger than the caches, so written past them.
TEST(SoftmaxKernel, StreamedOutput) {
  const Shape shape{1100, 4096};
  const Operand x = Operand::random(shape, DType::kF32, 5);
  const auto y = run_kernel(make_softmax, op::Softmax{1}, {x}, {TensorSpec{shape, DType::kF32}});
  EXPECT_TRUE(near(y[0], reference(op::Softmax{1}, x, 1), 2e-6, 1e-9));
}

TEST(SoftmaxKernel, ThreadsDoNotChangeTheResult) {
  const Shape shape{3, 100000};
  std::vector<double> first;
  with_thread_counts([&](int threads) {
    const auto y =
        run_kernel(make_softmax, op::Softmax{1}, {Operand::random(shape, DType::kF32, 5)},
                   {TensorSpec{shape, DType::kF32}});
    if (threads == 1) first = y[0].values();
    EXPECT_EQ(y[0].values(), first);
  });
}

TEST(SoftmaxKernel, Backward) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool strided : {false, true}) {
      for (int axis = 0; axis < 3; ++axis) {
        const Shape shape{4, 9, 37};
        const auto layout =
            strided ? padded_rows(shape, dtype) : TensorLayout::contiguous({shape, dtype});
        const Operand y = Operand::random(layout, 1, 0.3), dy = Operand::random(layout, 2);
        std::vector<double> expected(static_cast<std::size_t>(y.size()));
        Lines(shape, axis).each([&](const auto& line, std::size_t) {
          double dot = 0;
          for (const auto i : line) dot += y.get(i) * dy.get(i);
          for (const auto i : line) {
            expected[static_cast<std::size_t>(i)] = y.get(i) * (dy.get(i) - dot);
          }
        });
        const TensorSpec spec{shape, dtype};
        const auto dx = run_kernel(make_softmax, op::SoftmaxBackward{axis}, {y, dy}, {spec});
        EXPECT_TRUE(near(dx[0], expected)) << axis;
        if (strided) continue;
        const auto over =
            run_kernel(make_softmax, op::SoftmaxBackward{axis}, {y, dy}, {spec}, {.in_place = 0});
        EXPECT_EQ(over[0].values(), dx[0].values());
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
