// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Walking over several operands of one shape whose strides differ.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "metal_candle/core/shape.h"
#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::backend {

/// The strides with which `layout`, aligned to the right as NumPy does, is read to fill `shape`: 0
/// along the axes that it is repeated over.
inline Strides broadcast_strides(const TensorLayout& layout, const Shape& shape) {
  Strides strides(shape.size(), 0);
  const int offset = shape.rank() - layout.shape.rank();
  for (int i = 0; i < layout.shape.rank(); ++i) {
    if (layout.shape[i] != 1) strides[offset + i] = layout.strides[i];
  }
  return strides;
}

/// Drops the axes of length 1 and merges neighbours that every operand passes through with one
/// stride. Row-major order stays what it was. A shape of one element becomes [1], so at least one
/// axis is left.
inline void collapse_axes(Shape& shape, std::span<Strides> operands) {
  int last = -1;  // The last axis written.
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const std::int64_t length = shape[axis];
    if (length == 1) continue;
    const bool merges =
        last >= 0 && std::all_of(operands.begin(), operands.end(),
                                 [&](const Strides& s) { return s[last] == s[axis] * length; });
    if (!merges) ++last;
    shape[last] = merges ? shape[last] * length : length;
    for (Strides& s : operands) s[last] = s[axis];
  }
  const std::size_t rank = static_cast<std::size_t>(last) + 1;
  const auto truncate = [rank](Dims& dims, std::int64_t scalar) {
    dims = rank > 0 ? Dims(std::span<const std::int64_t>(dims.data(), rank)) : Dims{scalar};
  };
  truncate(shape, 1);
  for (Strides& s : operands) truncate(s, 0);
}

/// What an operation that only moves elements reads, in row-major order of its output.
struct StridedView {
  Shape shape;
  Strides strides;
  std::int64_t offset = 0;  // In elements.
};
inline StridedView view_of(const Operation& operation, const TensorLayout& input,
                           const Shape& output) {
  if (const auto* transpose = std::get_if<op::Transpose>(&operation)) {
    StridedView view{output, output};
    for (int i = 0; i < output.rank(); ++i) {
      view.strides[i] = input.strides[static_cast<int>(transpose->permutation[i])];
    }
    return view;
  }
  if (const auto* slice = std::get_if<op::Slice>(&operation)) {
    StridedView view{output, input.strides};
    for (int i = 0; i < output.rank(); ++i) {
      view.offset += slice->start[i] * input.strides[i];
      view.strides[i] *= slice->step[i];
    }
    return view;
  }
  if (std::holds_alternative<op::Broadcast>(operation)) {
    return {output, broadcast_strides(input, output)};
  }
  return {input.shape, input.strides};  // Also a reshape: row-major order stays.
}

/// A tensor seen as [outer, length, inner] around one axis.
struct AxisView {
  std::int64_t outer = 1, length = 1, inner = 1;

  AxisView(const Shape& shape, int axis) : length(shape[axis]) {
    for (int i = 0; i < axis; ++i) outer *= shape[i];
    for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  }
};

/// A part of a row-major tensor, which begins `offset` elements in.
struct Box {
  Shape shape;
  std::int64_t offset = 0;
};
/// Where Pad puts its input in the output.
inline Box padded_box(const op::Pad& pad, const Shape& input, const Shape& output) {
  const Strides strides = contiguous_strides(output);
  Box box{input};
  for (int i = 0; i < pad.low.rank(); ++i) box.offset += pad.low[i] * strides[i];
  return box;
}
/// What it fills around that, slab by slab: first what lies outside of the box on axis 0, then,
/// inside of it there, what lies outside on axis 1, and so on.
inline std::vector<Box> padding_slabs(const op::Pad& pad, const Shape& input, const Shape& output) {
  const Strides strides = contiguous_strides(output);
  std::vector<Box> slabs;
  Box slab{output};
  for (int axis = 0; axis < output.rank(); ++axis) {
    const std::int64_t before = pad.low[axis];
    const std::int64_t after = output[axis] - before - input[axis];
    for (const auto& [start, length] :
         {std::pair(std::int64_t{0}, before), std::pair(before + input[axis], after)}) {
      if (length == 0) continue;
      slab.shape[axis] = length;
      slabs.push_back({slab.shape, slab.offset + start * strides[axis]});
    }
    slab.shape[axis] = input[axis];
    slab.offset += before * strides[axis];
  }
  return slabs;
}

/// Orders axes from the largest stride to the smallest and turns negative strides round, for what
/// does not care for the order of elements. Returns the offset of the first.
inline std::int64_t order_by_stride(Dims& sizes, Dims& strides) {
  std::int64_t base = 0;
  std::array<int, kMaxRank> order;
  std::iota(order.begin(), order.end(), 0);
  for (int i = 0; i < sizes.rank(); ++i) {
    if (strides[i] >= 0) continue;
    base += (sizes[i] - 1) * strides[i];
    strides[i] = -strides[i];
  }
  // A stride of 0 repeats the rest.
  const auto key = [&](int i) { return strides[i] == 0 ? INT64_MAX : strides[i]; };
  std::stable_sort(order.begin(), order.begin() + sizes.rank(),
                   [&](int a, int b) { return key(a) > key(b); });
  const Dims old_sizes = sizes, old_strides = strides;
  for (int i = 0; i < sizes.rank(); ++i) {
    sizes[i] = old_sizes[order[static_cast<std::size_t>(i)]];
    strides[i] = old_strides[order[static_cast<std::size_t>(i)]];
  }
  return base;
}

/// A position in a shape, with the offset in elements of one strided operand, that moves along in
/// row-major order.
class StridedCursor {
 public:
  /// Starts at the element with row-major position `position`. Both arguments outlive the cursor.
  StridedCursor(const Shape& shape, const Strides& strides, std::int64_t position)
      : shape_(shape), strides_(strides) {
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      const std::int64_t index = axis == 0 ? position : position % shape[axis];
      position /= shape[axis];
      index_[static_cast<std::size_t>(axis)] = index;
      offset_ += index * strides[axis];
    }
  }

  [[nodiscard]] std::int64_t offset() const { return offset_; }
  /// Elements left on the last axis.
  [[nodiscard]] std::int64_t remaining() const { return shape_.back() - index_[last_axis()]; }

  /// Moves on by `count` <= remaining() elements.
  void advance(std::int64_t count) {
    index_[last_axis()] += count;
    offset_ += count * strides_.back();
    for (int axis = shape_.rank() - 1; axis > 0; --axis) {
      std::int64_t& index = index_[static_cast<std::size_t>(axis)];
      if (index < shape_[axis]) return;
      index = 0;
      ++index_[static_cast<std::size_t>(axis - 1)];
      offset_ += strides_[axis - 1] - shape_[axis] * strides_[axis];
    }
  }

 private:
  [[nodiscard]] std::size_t last_axis() const { return shape_.size() - 1; }

  const Shape& shape_;
  const Strides& strides_;
  std::array<std::int64_t, kMaxRank> index_{};
  std::int64_t offset_ = 0;
};

/// Calls fn(std::uint8_t{}), ... with the unsigned integer of `bytes` bytes: moving elements about
/// needs their size only.
template <typename Fn>
void dispatch_element_size(std::size_t bytes, Fn&& fn) {
  switch (bytes) {
    case 1:
      return fn(std::uint8_t{});
    case 2:
      return fn(std::uint16_t{});
    case 4:
      return fn(std::uint32_t{});
    default:
      return fn(std::uint64_t{});
  }
}

}  // namespace metal_candle::backend
