// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The rotary embedding kernel against rotations in double.
#include <gtest/gtest.h>

#include "kernel_harness.h"

namespace metal_candle::backend::cpu::testing {
namespace {

Operand frequencies(int dims) {
  Operand f(Shape{dims / 2}, DType::kF32);
  for (std::int64_t i = 0; i < f.size(); ++i)
    f.set(i, std::pow(10000.0, -2.0 * static_cast<double>(i) / dims));
  return f;
}

std::vector<double> reference(const op::Rope& rope, const Operand& x, const Operand& offset,
                              const Operand& f) {
  const std::int64_t n = x.shape().back(), length = x.shape()[x.shape().rank() - 2];
  const std::int64_t per_batch =
      x.shape().rank() > 2 ? x.size() / std::max<std::int64_t>(1, x.shape()[0]) : x.size();
  std::vector<double> out = x.values();
  for (std::int64_t first = 0; first < x.size(); first += n) {
    const auto position = static_cast<float>(offset.get(offset.size() > 1 ? first / per_batch : 0) +
                                             static_cast<double>(first / n % length));
    for (int i = 0; i < rope.dims / 2; ++i) {
      // The angle is an f32 product by definition; its sine and cosine are not.
      const double angle =
          static_cast<double>(position * rope.scale * static_cast<float>(f.get(i)));
      const double c = std::cos(angle), s = rope.inverse ? -std::sin(angle) : std::sin(angle);
      const std::int64_t a = first + (rope.interleaved ? 2 * i : i);
      const std::int64_t b = rope.interleaved ? a + 1 : a + rope.dims / 2;
      out[static_cast<std::size_t>(a)] = x.get(a) * c - x.get(b) * s;
      out[static_cast<std::size_t>(b)] = x.get(b) * c + x.get(a) * s;
    }
  }
  return out;
}

void check(const op::Rope& rope, const TensorLayout& layout, const Operand& offset) {
  const Operand x = Operand::random(layout, 1);
  const Operand f = frequencies(rope.dims);
  const TensorSpec spec{layout.shape, layout.dtype};
  const auto expected = reference(rope, x, offset, f);
  const auto out = run_kernel(make_rope, rope, {x, offset, f}, {spec});
  EXPECT_TRUE(near(out[0], expected, 2e-6)) << to_string(layout.shape) << ' ' << rope.dims;
  if (!layout.is_contiguous()) return;
  const auto over = run_kernel(make_rope, rope, {x, offset, f}, {spec}, {.in_place = 0});
  EXPECT_EQ(over[0].values(), out[0].values());
}

Operand scalar(double value) { return Operand::of(Shape{}, DType::kI32, {value}); }

TEST(RopeKernel, EveryForm) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool interleaved : {false, true}) {
      for (const bool inverse : {false, true}) {
        for (const int dims : {2, 6, 16, 34, 64}) {
          const op::Rope rope{dims, interleaved, inverse, 1.0f};
          check(rope, TensorLayout::contiguous({Shape{2, 3, 37, 64}, dtype}), scalar(5));
        }
      }
    }
  }
}

TEST(RopeKernel, OffsetForEachElementOfTheBatch) {
  const op::Rope rope{16, false, false, 0.25f};
  const Operand offsets = Operand::of(Shape{3}, DType::kI32, {0, 17, 4000});
  check(rope, TensorLayout::contiguous({Shape{3, 2, 5, 24}, DType::kF32}), offsets);
  check(rope, TensorLayout::contiguous({Shape{3, 5, 16}, DType::kBF16}), offsets);
}

TEST(RopeKernel, LayoutsAndShapes) {
  const op::Rope rope{8, false, false, 1.0f};
  check(rope, padded_rows(Shape{2, 4, 19, 8}, DType::kF32), scalar(3));
  // Heads after positions in memory, as a projection leaves them.
  check(rope, {Shape{2, 4, 19, 8}, Strides{19 * 32, 8, 32, 1}, DType::kF16}, scalar(3));
  check(rope, TensorLayout::contiguous({Shape{7, 8}, DType::kF32}), scalar(0));
  check(rope, TensorLayout::contiguous({Shape{1, 14, 1, 8}, DType::kF32}), scalar(999));
  check(rope, TensorLayout::contiguous({Shape{0, 4, 3, 8}, DType::kF32}), scalar(0));
  check(rope, TensorLayout::contiguous({Shape{2, 4, 0, 8}, DType::kF32}), scalar(0));
}

TEST(RopeKernel, FarPositions) {
  check({64, false, false, 1.0f}, TensorLayout::contiguous({Shape{1, 2, 40, 64}, DType::kF32}),
        scalar(131000));
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
