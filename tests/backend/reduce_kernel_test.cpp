// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reductions, arg-reductions and scans against loops in double or 64-bit integers.
#include <gtest/gtest.h>

#include <limits>

#include "kernel_harness.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr DType kIntegers[] = {DType::kU8, DType::kI8, DType::kI32, DType::kU32, DType::kI64};

double identity(ReduceKind kind) {
  if (kind == ReduceKind::kMax) return -kInf;
  if (kind == ReduceKind::kMin) return kInf;
  return kind == ReduceKind::kProd || kind == ReduceKind::kAll ? 1 : 0;
}
double join(ReduceKind kind, double a, double b) {
  switch (kind) {
    case ReduceKind::kSum:
      return a + b;
    case ReduceKind::kProd:
      return a * b;
    case ReduceKind::kMax:
      return std::isnan(a) || a > b ? a : b;
    case ReduceKind::kMin:
      return std::isnan(a) || a < b ? a : b;
    case ReduceKind::kAny:
      return a != 0 || b != 0;
    case ReduceKind::kAll:
      return a != 0 && b != 0;
  }
  return 0;
}

Shape reduced_shape(const Shape& shape, const Axes& axes) {
  Shape result;
  for (int i = 0; i < shape.rank(); ++i) {
    if (std::find(axes.begin(), axes.end(), i) == axes.end()) result.push_back(shape[i]);
  }
  return result;
}

std::vector<double> reference(ReduceKind kind, const Operand& x, const Axes& axes) {
  const Shape out = reduced_shape(x.shape(), axes);
  std::vector<double> result(static_cast<std::size_t>(num_elements(out)), identity(kind));
  for (std::int64_t i = 0; i < x.size(); ++i) {
    std::int64_t rest = i, target = 0, step = 1;
    for (int axis = x.shape().rank() - 1; axis >= 0; --axis) {
      const std::int64_t index = rest % x.shape()[axis];
      rest /= x.shape()[axis];
      if (std::find(axes.begin(), axes.end(), axis) != axes.end()) continue;
      target += index * step;
      step *= x.shape()[axis];
    }
    double& value = result[static_cast<std::size_t>(target)];
    value = join(kind, value, x.get(i));
  }
  return result;
}

Operand reduce(ReduceKind kind, const Operand& x, const Axes& axes) {
  const bool logical = kind == ReduceKind::kAny || kind == ReduceKind::kAll;
  const TensorSpec spec{reduced_shape(x.shape(), axes), logical ? DType::kBool : x.layout().dtype};
  return run_kernel(make_reduce, op::Reduce{kind, axes, false}, {x}, {spec})[0];
}

std::vector<Axes> axes_of_rank(int rank) {
  std::vector<Axes> result;
  for (int mask = 0; mask < 1 << rank; ++mask) {
    Axes axes;
    for (int i = 0; i < rank; ++i) {
      if ((mask >> i & 1) != 0) axes.push_back(i);
    }
    result.push_back(axes);
  }
  return result;
}

void check(ReduceKind kind, const Operand& x, const Axes& axes) {
  const auto expected = reference(kind, x, axes);
  const double terms =
      static_cast<double>(x.size()) / std::max<double>(1, static_cast<double>(expected.size()));
  const bool exact = kind != ReduceKind::kSum && kind != ReduceKind::kProd;
  EXPECT_TRUE(near(reduce(kind, x, axes), expected, exact ? 0 : 1e-6 * (1 + std::sqrt(terms))))
      << name(kind) << ' ' << to_string(x.shape()) << ' ' << to_string(x.layout().strides)
      << " over " << to_string(axes);
}

TEST(ReduceKernel, EveryFloatingKindOverEveryAxis) {
  for (const DType dtype : kFloatingDTypes) {
    const Operand x = Operand::random(Shape{5, 7, 33}, dtype, 1);
    for (const auto kind : {ReduceKind::kSum, ReduceKind::kMax, ReduceKind::kMin, ReduceKind::kAny,
                            ReduceKind::kAll}) {
      for (const Axes& axes : axes_of_rank(3)) check(kind, x, axes);
    }
    // Products near 1, which neither overflow nor vanish.
    Operand near_one(Shape{3, 4, 17}, dtype);
    for (std::int64_t i = 0; i < near_one.size(); ++i)
      near_one.set(i, i % 3 == 0 ? -1 : i % 2 == 0 ? 2 : 0.5);
    for (const Axes& axes : axes_of_rank(3)) check(ReduceKind::kProd, near_one, axes);
  }
}

TEST(ReduceKernel, Sizes) {
  for (const DType dtype : kFloatingDTypes) {
    for (const std::int64_t n : {1, 3, 7, 8, 17, 1000, 4097, 40000}) {
      for (const Shape& shape : {Shape{3, n}, Shape{n, 3}, Shape{n, 40}, Shape{n}}) {
        if (num_elements(shape) > 200000 && dtype != DType::kF32) continue;
        for (const Axes& axes : axes_of_rank(shape.rank())) {
          check(ReduceKind::kSum, Operand::random(shape, dtype, 2), axes);
          check(ReduceKind::kMax, Operand::random(shape, dtype, 3), axes);
        }
      }
    }
  }
}

TEST(ReduceKernel, Layouts) {
  const Shape shape{6, 5, 24};
  for (const Strides& strides :
       {Strides{1, 6, 30},      // Transposed.
        Strides{120, 1, 5},     // The last two exchanged.
        Strides{-120, 24, -1},  // Flipped.
        Strides{0, 24, 1},      // Broadcast.
        Strides{24, 0, 1}, Strides{5, 1, 0}, Strides{0, 0, 0}, Strides{500, 70, 2}}) {
    for (const Axes& axes : axes_of_rank(3)) {
      check(ReduceKind::kSum, Operand::random(TensorLayout{shape, strides, DType::kF32}, 4), axes);
      check(ReduceKind::kMin, Operand::random(TensorLayout{shape, strides, DType::kBF16}, 4), axes);
      check(ReduceKind::kMax, Operand::random(TensorLayout{shape, strides, DType::kI32}, 4), axes);
    }
  }
}

TEST(ReduceKernel, IntegersWrap) {
  for (const DType dtype : kIntegers) {
    const Operand x = Operand::random(Shape{6, 5, 20}, dtype, 9);
    for (const Axes& axes : axes_of_rank(3)) {
      check(ReduceKind::kMax, x, axes);
      check(ReduceKind::kMin, x, axes);
      check(ReduceKind::kAny, x, axes);
      check(ReduceKind::kAll, x, axes);
      // What the sums wrap to: the exact sum written into the dtype.
      const auto exact = reference(ReduceKind::kSum, x, axes);
      const Operand sum = reduce(ReduceKind::kSum, x, axes);
      for (std::int64_t i = 0; i < sum.size(); ++i) {
        const auto value = static_cast<std::int64_t>(exact[static_cast<std::size_t>(i)]);
        const double wrapped =
            dtype == DType::kU8    ? static_cast<double>(value & 255)
            : dtype == DType::kI8  ? static_cast<double>(static_cast<std::int8_t>(value & 255))
            : dtype == DType::kU32 ? static_cast<double>(static_cast<std::uint32_t>(value))
                                   : static_cast<double>(value);
        EXPECT_EQ(sum.get(i), wrapped) << name(dtype);
      }
    }
  }
  const Operand big = Operand::of(Shape{2}, DType::kI32, {2147483647, 2});
  EXPECT_EQ(reduce(ReduceKind::kSum, big, Axes{0}).get(0), -2147483647.0);
  EXPECT_EQ(reduce(ReduceKind::kProd, big, Axes{0}).get(0), -2.0);
}

TEST(ReduceKernel, Bool) {
  const Operand x = Operand::of(Shape{3, 3}, DType::kBool, {0, 0, 0, 1, 1, 1, 0, 1, 0});
  for (const auto kind : {ReduceKind::kAny, ReduceKind::kMax, ReduceKind::kSum}) {
    EXPECT_TRUE(near(reduce(kind, x, Axes{1}), {0, 1, 1}));
  }
  for (const auto kind : {ReduceKind::kAll, ReduceKind::kMin, ReduceKind::kProd}) {
    EXPECT_TRUE(near(reduce(kind, x, Axes{1}), {0, 1, 0}));
    EXPECT_TRUE(near(reduce(kind, x, Axes{0}), {0, 0, 0}));
  }
}

TEST(ReduceKernel, NanAndInfinity) {
  for (const bool columns : {false, true}) {
    for (const std::int64_t n : {4, 40}) {
      const Shape shape = columns ? Shape{n, 30} : Shape{30, n};
      Operand x(shape, DType::kF32);
      for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, 1);
      for (std::int64_t line = 0; line < 30; ++line) {
        // A NaN in every place, and one after an infinity.
        const auto at = [&](std::int64_t i) { return columns ? i * 30 + line : line * n + i; };
        x.set(at(line % n), kNan);
        x.set(at((line + 1) % n), kInf);
      }
      const Axes axes{columns ? 0 : 1};
      for (const auto kind : {ReduceKind::kMax, ReduceKind::kMin, ReduceKind::kSum}) {
        const Operand out = reduce(kind, x, axes);
        for (std::int64_t i = 0; i < 30; ++i) EXPECT_TRUE(std::isnan(out.get(i))) << name(kind);
      }
    }
  }
}

TEST(ReduceKernel, EmptyAxes) {
  const Operand x(Shape{3, 0}, DType::kF32);
  EXPECT_TRUE(near(reduce(ReduceKind::kSum, x, Axes{1}), {0, 0, 0}));
  EXPECT_TRUE(near(reduce(ReduceKind::kProd, x, Axes{1}), {1, 1, 1}));
  EXPECT_EQ(reduce(ReduceKind::kSum, x, Axes{0}).size(), 0);
  EXPECT_TRUE(near(reduce(ReduceKind::kSum, Operand::of(Shape{}, DType::kF32, {3}), Axes{}), {3}));
}

// A naive running f32 sum is off by far more.
TEST(ReduceKernel, LongSumsAreAccurate) {
  for (const Shape& shape : {Shape{3000000}, Shape{1500000, 2}, Shape{100000, 30}}) {
    Operand x(shape, DType::kF32);
    for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, 0.1);
    const double expected = static_cast<double>(0.1f) * static_cast<double>(shape[0]);
    const Operand sums = reduce(ReduceKind::kSum, x, Axes{0});
    for (std::int64_t i = 0; i < sums.size(); ++i) {
      EXPECT_NEAR(sums.get(i), expected, 2e-6 * expected) << to_string(shape);
    }
  }
}

TEST(ReduceKernel, ThreadsDoNotChangeTheResult) {
  for (const Axes& axes : {Axes{0}, Axes{1}, Axes{0, 1}}) {
    const Operand x = Operand::random(Shape{700, 1500}, DType::kF32, 3);
    std::vector<double> first;
    with_thread_counts([&](int threads) {
      const Operand out = reduce(ReduceKind::kSum, x, axes);
      if (threads == 1) first = out.values();
      EXPECT_EQ(out.values(), first);
    });
  }
}

TEST(ReduceKernel, RefusesAnotherDtype) {
  const Operand x(Shape{3}, DType::kU8);
  EXPECT_THROW(run_kernel(make_reduce, op::Reduce{ReduceKind::kSum, Axes{0}, false}, {x},
                          {TensorSpec{Shape{}, DType::kI32}}),
               DTypeError);
}

// ---- ArgReduce and Cumulative ----

template <typename Fn>
void each_line(const Shape& shape, int axis, Fn fn) {
  std::int64_t inner = 1, line = 0;
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  const std::int64_t block = inner * shape[axis];
  for (std::int64_t first = 0; first < num_elements(shape); first += block) {
    for (std::int64_t c = 0; c < inner; ++c) {
      std::vector<std::int64_t> positions;
      for (std::int64_t a = 0; a < shape[axis]; ++a) positions.push_back(first + a * inner + c);
      fn(positions, line++);
    }
  }
}

void check_arg(const Operand& x, bool is_max, int axis) {
  const Operand out =
      run_kernel(make_reduce, op::ArgReduce{is_max, axis}, {x},
                 {TensorSpec{reduced_shape(x.shape(), Axes{axis}), DType::kI32}})[0];
  each_line(x.shape(), axis, [&](const auto& line, std::int64_t number) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < line.size(); ++i) {
      const double v = x.get(line[i]), b = x.get(line[best]);
      if (!std::isnan(b) && (std::isnan(v) || (is_max ? v > b : v < b))) best = i;
    }
    EXPECT_EQ(out.get(number), static_cast<double>(best))
        << to_string(x.shape()) << " axis " << axis;
  });
}

TEST(ArgReduceKernel, EveryDtypeAndAxis) {
  for (const DType dtype : {DType::kBool, DType::kU8, DType::kI8, DType::kI32, DType::kU32,
                            DType::kI64, DType::kF16, DType::kBF16, DType::kF32}) {
    for (const bool is_max : {false, true}) {
      for (const std::int64_t n : {1, 3, 8, 17, 300}) {
        for (int axis = 0; axis < 3; ++axis) {
          check_arg(Operand::random(Shape{3, n, 5}, dtype, 1), is_max, axis);
        }
        check_arg(Operand::random(Shape{3, n}, dtype, 2), is_max, 1);
      }
      check_arg(Operand::random(padded_rows(Shape{3, 4, 20}, dtype), 2), is_max, 2);
      check_arg(Operand::random(padded_rows(Shape{3, 4, 20}, dtype), 2), is_max, 0);
    }
  }
}

TEST(ArgReduceKernel, TiesAndNan) {
  for (const std::int64_t n : {10, 100, 10000}) {
    for (const bool is_max : {false, true}) {
      Operand x = Operand::random(Shape{4, n}, DType::kF32, 3);
      for (std::int64_t i = 0; i < n; ++i) x.set(i, 1);        // All equal.
      x.set(n + n / 2, kNan);                                  // One NaN,
      x.set(2 * n + n - 1, kNan), x.set(2 * n + n - 2, kNan);  // two,
      for (std::int64_t i = 0; i < n; ++i) x.set(3 * n + i, is_max ? -kInf : kInf);
      check_arg(x, is_max, 1);
      Operand transposed(Shape{n, 4}, DType::kF32);
      for (std::int64_t i = 0; i < 4 * n; ++i) transposed.set(i, x.get(i % 4 * n + i / 4));
      check_arg(transposed, is_max, 0);
    }
  }
}

TEST(ArgReduceKernel, NothingToChooseFrom) {
  EXPECT_THROW(run_kernel(make_reduce, op::ArgReduce{true, 1}, {Operand(Shape{2, 0}, DType::kF32)},
                          {TensorSpec{Shape{2}, DType::kI32}}),
               ShapeError);
}

TEST(CumulativeKernel, EveryKindAndAxis) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI32, DType::kI64}) {
    for (const auto kind :
         {ReduceKind::kSum, ReduceKind::kMax, ReduceKind::kMin, ReduceKind::kProd}) {
      for (const Shape& shape :
           {Shape{3, 17, 5}, Shape{1, 1000, 1}, Shape{2, 4, 300}, Shape{0, 3, 2}}) {
        if (kind == ReduceKind::kProd && shape[1] > 100) continue;
        for (int axis = 0; axis < 3; ++axis) {
          if (kind == ReduceKind::kProd && shape[axis] > 5) continue;
          for (const bool reverse : {false, true}) {
            const Operand x = Operand::random(shape, dtype, 1, 0.5);
            std::vector<double> expected(static_cast<std::size_t>(x.size()));
            each_line(shape, axis, [&](const auto& line, std::int64_t) {
              double total = identity(kind);
              for (std::size_t i = 0; i < line.size(); ++i) {
                const auto at = reverse ? line[line.size() - 1 - i] : line[i];
                expected[static_cast<std::size_t>(at)] = total = join(kind, total, x.get(at));
              }
            });
            const Operation operation = op::Cumulative{kind, axis, reverse};
            const TensorSpec spec{shape, dtype};
            const auto out = run_kernel(make_reduce, operation, {x}, {spec});
            EXPECT_TRUE(near(out[0], expected, 1e-6)) << name(kind) << to_string(shape) << axis;
            const auto over = run_kernel(make_reduce, operation, {x}, {spec}, {.in_place = 0});
            EXPECT_EQ(over[0].values(), out[0].values());
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
