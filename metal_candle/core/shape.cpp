// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Arithmetic on shapes and strides.
#include "metal_candle/core/shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "metal_candle/core/error.h"

namespace metal_candle {

void Dims::throw_rank(std::size_t size) {
  throw ShapeError(
      fmt::format("a tensor has at most {} dimensions, but {} were given", kMaxRank, size));
}

std::int64_t num_elements(const Shape& shape) {
  std::int64_t count = 1;
  bool overflow = false;
  for (const std::int64_t length : shape) {
    if (length == 0) return 0;
    overflow |= __builtin_mul_overflow(count, length, &count);
  }
  if (overflow) {
    throw ShapeError(fmt::format("shape {} has more elements than 63 bits can count",  //
                                 to_string(shape)));
  }
  return count;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides(shape.size(), 1);
  for (int i = shape.rank() - 2; i >= 0; --i) {
    // A length of 0 counts as 1, so that the strides of an empty tensor stay meaningful.
    strides[i] = strides[i + 1] * std::max<std::int64_t>(shape[i + 1], 1);
  }
  return strides;
}

bool is_contiguous(const Shape& shape, const Strides& strides) {
  std::int64_t expected = 1;
  bool dense = true;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
    if (shape[i] == 1) continue;
    dense &= strides[i] == expected;
    expected *= shape[i];
  }
  return dense;
}

std::string to_string(const Dims& dims) { return fmt::format("[{}]", fmt::join(dims, ", ")); }

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  const int offset = longer.rank() - shorter.rank();
  for (int i = 0; i < shorter.rank(); ++i) {
    std::int64_t& length = result[offset + i];
    if (length == shorter[i] || shorter[i] == 1) continue;
    if (length != 1) {
      throw ShapeError(
          fmt::format("{}: shapes {} and {} do not broadcast", op, to_string(a), to_string(b)));
    }
    length = shorter[i];
  }
  return result;
}

int normalize_axis(const char* op, std::int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) {
    throw ShapeError(fmt::format("{}: axis {} is out of range for {} dimensions", op, axis, rank));
  }
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

}  // namespace metal_candle
