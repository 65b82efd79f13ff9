// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The indexing kernels against loops over single elements.
#include <gtest/gtest.h>

#include "kernel_harness.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu::testing {
namespace {

constexpr DType kEveryDType[] = {DType::kBool, DType::kU8,  DType::kI8,   DType::kI32, DType::kU32,
                                 DType::kI64,  DType::kF16, DType::kBF16, DType::kF32};

// A tensor as [outer, n, inner] around an axis.
struct View {
  std::int64_t outer = 1, n = 1, inner = 1;
  View(const Shape& shape, int axis) : n(shape[axis]) {
    for (int i = 0; i < axis; ++i) outer *= shape[i];
    for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  }
  [[nodiscard]] std::int64_t at(std::int64_t o, std::int64_t i, std::int64_t c) const {
    return (o * n + i) * inner + c;
  }
};

// Indices of both signs that repeat.
Operand random_indices(const Shape& shape, DType dtype, std::int64_t n) {
  Operand indices(shape, dtype);
  for (std::int64_t i = 0; i < indices.size(); ++i) {
    const std::int64_t index = i * 7919 % n;
    indices.set(i, static_cast<double>(i % 3 == 0 ? index - n : index));
  }
  return indices;
}
std::int64_t wrapped(const Operand& indices, std::int64_t i, std::int64_t n) {
  const auto index = static_cast<std::int64_t>(indices.get(i));
  return index < 0 ? index + n : index;
}

void check_take(const Shape& shape, int axis, DType dtype, DType index_dtype,
                const Shape& index_shape) {
  const View x_view(shape, axis);
  const Operand x = Operand::random(shape, dtype, 1);
  const Operand indices = random_indices(index_shape, index_dtype, x_view.n);
  Shape out_shape;
  for (int i = 0; i < axis; ++i) out_shape.push_back(shape[i]);
  for (const auto length : index_shape) out_shape.push_back(length);
  for (int i = axis + 1; i < shape.rank(); ++i) out_shape.push_back(shape[i]);
  std::vector<double> expected;
  for (std::int64_t o = 0; o < x_view.outer; ++o) {
    for (std::int64_t i = 0; i < indices.size(); ++i) {
      for (std::int64_t c = 0; c < x_view.inner; ++c) {
        expected.push_back(x.get(x_view.at(o, wrapped(indices, i, x_view.n), c)));
      }
    }
  }
  const auto out =
      run_kernel(make_index, op::Take{axis}, {x, indices}, {TensorSpec{out_shape, dtype}});
  EXPECT_EQ(out[0].values(), expected) << to_string(shape) << ' ' << axis;
}

TEST(IndexKernel, Take) {
  for (const DType dtype : kEveryDType) {
    for (const DType index_dtype : {DType::kI32, DType::kI64}) {
      for (int axis = 0; axis < 3; ++axis) {
        check_take(Shape{5, 7, 3}, axis, dtype, index_dtype, Shape{4, 2});
        check_take(Shape{5, 7, 3}, axis, dtype, index_dtype, Shape{});
      }
    }
  }
  check_take(Shape{1000, 257}, 0, DType::kBF16, DType::kI32, Shape{3, 200});
  check_take(Shape{100000}, 0, DType::kF32, DType::kI64, Shape{30000});
  check_take(Shape{5, 4}, 0, DType::kF32, DType::kI32, Shape{0});
  check_take(Shape{5, 0}, 0, DType::kF32, DType::kI32, Shape{3});
}

TEST(IndexKernel, TakeAlongAxis) {
  for (const DType dtype : kEveryDType) {
    for (int axis = 0; axis < 3; ++axis) {
      const Shape shape{5, 7, 9};
      Shape index_shape = shape;
      index_shape[axis] = 11;
      const Operand x = Operand::random(shape, dtype, 1);
      const Operand indices =
          random_indices(index_shape, axis == 1 ? DType::kI64 : DType::kI32, shape[axis]);
      const View from(shape, axis), to(index_shape, axis);
      std::vector<double> expected(static_cast<std::size_t>(indices.size()));
      for (std::int64_t o = 0; o < to.outer; ++o) {
        for (std::int64_t i = 0; i < to.n; ++i) {
          for (std::int64_t c = 0; c < to.inner; ++c) {
            const auto at = to.at(o, i, c);
            expected[static_cast<std::size_t>(at)] =
                x.get(from.at(o, wrapped(indices, at, from.n), c));
          }
        }
      }
      const auto out = run_kernel(make_index, op::TakeAlongAxis{axis}, {x, indices},
                                  {TensorSpec{index_shape, dtype}});
      EXPECT_EQ(out[0].values(), expected);
    }
  }
}

double add(double a, double b, DType dtype) {
  if (dtype == DType::kBool) return a != 0 || b != 0;
  const double sum = a + b;
  if (dtype == DType::kU8) return static_cast<double>(static_cast<std::int64_t>(sum) & 255);
  if (dtype == DType::kI8)
    return static_cast<double>(static_cast<std::int8_t>(static_cast<std::int64_t>(sum) & 255));
  return dtype == DType::kU32
             ? static_cast<double>(static_cast<std::uint32_t>(static_cast<std::int64_t>(sum)))
             : sum;
}

void check_scatter(const Shape& shape, int axis, std::int64_t count, DType dtype, bool along) {
  const View to(shape, axis);
  Shape update_shape = shape;
  update_shape[axis] = count;
  const View from(update_shape, axis);
  const Operand x = Operand::random(shape, dtype, 1),
                updates = Operand::random(update_shape, dtype, 2);
  const Operand indices = random_indices(along ? update_shape : Shape{count}, DType::kI32, to.n);
  std::vector<double> expected = x.values();
  for (std::int64_t i = 0; i < updates.size(); ++i) {
    const std::int64_t c = i % from.inner, a = i / from.inner % from.n, o = i / from.inner / from.n;
    double& target =
        expected[static_cast<std::size_t>(to.at(o, wrapped(indices, along ? i : a, to.n), c))];
    target = add(target, updates.get(i), dtype);
  }
  const Operation operation =
      along ? Operation(op::ScatterAddAlongAxis{axis}) : Operation(op::ScatterAdd{axis});
  const TensorSpec spec{shape, dtype};
  const auto out = run_kernel(make_index, operation, {x, indices, updates}, {spec});
  EXPECT_TRUE(near(out[0], expected, is_floating(dtype) ? 1e-5 : 0))
      << to_string(shape) << axis << name(dtype);
  const auto over =
      run_kernel(make_index, operation, {x, indices, updates}, {spec}, {.in_place = 0});
  EXPECT_EQ(over[0].values(), out[0].values());
}

TEST(IndexKernel, ScatterAdd) {
  for (const bool along : {false, true}) {
    for (const DType dtype : kEveryDType) {
      for (int axis = 0; axis < 3; ++axis) {
        check_scatter(Shape{5, 7, 9}, axis, 20, dtype, along);
        check_scatter(Shape{5, 7, 9}, axis, 1, dtype, along);
        check_scatter(Shape{5, 7, 9}, axis, 0, dtype, along);
      }
    }
    check_scatter(Shape{300, 700}, 0, 1000, DType::kF32, along);
    check_scatter(Shape{300, 700}, 1, 1000, DType::kF16, along);
    check_scatter(Shape{0, 7}, 1, 3, DType::kF32, along);
  }
}

// Adding 1 to 256 in bf16 gives 256 each time; adding the ones first does not.
TEST(IndexKernel, RepeatedIndicesAddUpBeforeRounding) {
  const Operand ones = Operand::of(Shape{64, 1}, DType::kBF16, std::vector<double>(64, 1.0));
  for (const bool along : {false, true}) {
    const Operand x = Operand::of(Shape{2, 1}, DType::kBF16, {256, 0});
    const Operand zeros =
        Operand::of(along ? Shape{64, 1} : Shape{64}, DType::kI64, std::vector<double>(64, 0.0));
    const Operation operation =
        along ? Operation(op::ScatterAddAlongAxis{0}) : Operation(op::ScatterAdd{0});
    const auto out = run_kernel(make_index, operation, {x, zeros, ones},
                                {TensorSpec{Shape{2, 1}, DType::kBF16}});
    EXPECT_EQ(out[0].values(), (std::vector<double>{320, 0}));
  }
}

TEST(IndexKernel, ThreadsDoNotChangeTheResult) {
  std::vector<double> first;
  with_thread_counts([&](int threads) {
    const Operand x = Operand::random(Shape{50, 900}, DType::kF32, 1);
    const Operand updates = Operand::random(Shape{2000, 900}, DType::kF32, 2);
    const Operand indices = random_indices(Shape{2000}, DType::kI32, 50);
    const auto out = run_kernel(make_index, op::ScatterAdd{0}, {x, indices, updates},
                                {TensorSpec{x.shape(), DType::kF32}});
    if (threads == 1) first = out[0].values();
    EXPECT_EQ(out[0].values(), first);
  });
}

TEST(IndexKernel, OutOfRangeNamesTheOperation) {
  const Operand x = Operand::random(Shape{5, 4}, DType::kF32, 1);
  const auto expect_error = [&](const Operation& operation, const std::vector<Operand>& inputs,
                                const Shape& out, const std::string& op) {
    try {
      run_kernel(make_index, operation, inputs, {TensorSpec{out, DType::kF32}});
      FAIL() << op;
    } catch (const DeviceError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find(op + ":"), std::string::npos) << text;
      EXPECT_NE(text.find("length 5"), std::string::npos) << text;
    }
  };
  for (const double bad : {5.0, -6.0}) {
    const Operand indices = Operand::of(Shape{1}, DType::kI32, {bad});
    const Operand along = Operand::of(Shape{1, 4}, DType::kI64, {0, 0, bad, 0});
    const Operand updates(Shape{1, 4}, DType::kF32);
    expect_error(op::Take{0}, {x, indices}, Shape{1, 4}, "take");
    expect_error(op::TakeAlongAxis{0}, {x, along}, Shape{1, 4}, "take_along_axis");
    expect_error(op::ScatterAdd{0}, {x, indices, updates}, Shape{5, 4}, "scatter_add");
    expect_error(op::ScatterAddAlongAxis{0}, {x, along, updates}, Shape{5, 4},
                 "scatter_add_along_axis");
  }
}

// Row-major position of start + index * step for each element of a block.
template <typename Fn>
void each_of_block(const Shape& shape, const Shape& block, const Dims& start, const Dims& step,
                   Fn fn) {
  const Strides strides = contiguous_strides(shape);
  for (std::int64_t i = 0; i < num_elements(block); ++i) {
    std::int64_t rest = i, position = 0;
    for (int axis = block.rank() - 1; axis >= 0; --axis) {
      position += (start[axis] + rest % block[axis] * step[axis]) * strides[axis];
      rest /= block[axis];
    }
    fn(i, position);
  }
}

void check_slice_update(const TensorLayout& layout, const Shape& block, const Dims& start,
                        const Dims& step) {
  const Operand x = Operand::random(layout, 1);
  const Operand update = Operand::random(block, layout.dtype, 2);
  std::vector<double> expected = x.values();
  each_of_block(layout.shape, block, start, step, [&](std::int64_t i, std::int64_t position) {
    expected[static_cast<std::size_t>(position)] = update.get(i);
  });
  const TensorSpec spec{layout.shape, layout.dtype};
  const Operation operation = op::SliceUpdate{start, step};
  EXPECT_EQ(run_kernel(make_index, operation, {x, update}, {spec})[0].values(), expected);
  if (!layout.is_contiguous()) return;
  EXPECT_EQ(run_kernel(make_index, operation, {x, update}, {spec}, {.in_place = 0})[0].values(),
            expected);
}

TEST(IndexKernel, SliceUpdate) {
  for (const DType dtype : kEveryDType) {
    const TensorLayout dense = TensorLayout::contiguous({Shape{6, 8, 10}, dtype});
    check_slice_update(dense, Shape{2, 3, 4}, Dims{1, 2, 3}, Dims{1, 1, 1});
    check_slice_update(dense, Shape{2, 3, 4}, Dims{5, 7, 9}, Dims{-2, -1, -2});
    check_slice_update(dense, Shape{6, 8, 10}, Dims{0, 0, 0}, Dims{1, 1, 1});
    check_slice_update(dense, Shape{2, 0, 4}, Dims{0, 0, 0}, Dims{1, 1, 1});
    check_slice_update({Shape{6, 8, 10}, Strides{1, 60, 6}, dtype}, Shape{2, 3, 5}, Dims{0, 1, 1},
                       Dims{3, 2, 2});
  }
  check_slice_update(TensorLayout::contiguous({Shape{}, DType::kF32}), Shape{}, Dims{}, Dims{});
  check_slice_update(TensorLayout::contiguous({Shape{300000}, DType::kF32}), Shape{200000},
                     Dims{50}, Dims{1});
}

TEST(IndexKernel, DynamicSliceAndUpdate) {
  const Shape shape{4, 9, 5}, block{4, 3, 2};
  for (const DType dtype : kEveryDType) {
    for (const auto& layout : {TensorLayout::contiguous({shape, dtype}),
                               TensorLayout{shape, Strides{1, 20, 4}, dtype}}) {
      for (const double given : {-4.0, 0.0, 5.0, 6.0, 7.0, 100.0}) {
        const Operand starts =
            Operand::of(Shape{2}, given < 5 ? DType::kI32 : DType::kI64, {1, given});
        const Dims start{0, std::clamp<std::int64_t>(static_cast<std::int64_t>(given), 0, 6), 1};
        const Operand x = Operand::random(layout, 1), update = Operand::random(block, dtype, 2);
        std::vector<double> slice, updated = x.values();
        each_of_block(shape, block, start, Dims{1, 1, 1},
                      [&](std::int64_t i, std::int64_t position) {
                        slice.push_back(x.get(position));
                        updated[static_cast<std::size_t>(position)] = update.get(i);
                      });
        const Axes axes{2, 1};
        const auto out =
            run_kernel(make_index, op::DynamicSlice{axes}, {x, starts}, {TensorSpec{block, dtype}});
        EXPECT_EQ(out[0].values(), slice);
        const Operation operation = op::DynamicSliceUpdate{axes};
        const TensorSpec spec{shape, dtype};
        EXPECT_EQ(run_kernel(make_index, operation, {x, update, starts}, {spec})[0].values(),
                  updated);
        if (!layout.is_contiguous()) continue;
        EXPECT_EQ(run_kernel(make_index, operation, {x, update, starts}, {spec}, {.in_place = 0})[0]
                      .values(),
                  updated);
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
