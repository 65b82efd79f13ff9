// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rearranging elements: reshape, transpose, slice and what they make. Joining and repeating are in
// join.cpp.
#include "metal_candle/graph/ops/layout.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/elementwise.h"

namespace metal_candle {
namespace {

using detail::make_node;

[[noreturn]] void throw_shape(const char* op, const char* what, const Tensor& x) {
  throw ShapeError(fmt::format("{}: {}: {}", op, what, to_string(x.shape())));
}

// Replaces the length -1, if there is one, by what is left.
Shape complete_shape(const Tensor& x, const Shape& shape) {
  int unknown = -1;
  std::int64_t known = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] != -1) {
      known *= shape[i];
    } else if (unknown < 0) {
      unknown = i;
    } else {
      throw ShapeError(fmt::format("reshape: more than one -1: {} to {}", to_string(x.shape()),
                                   to_string(shape)));
    }
  }
  if (unknown < 0) return shape;
  if (known <= 0 || x.size() % known != 0) {
    throw ShapeError(fmt::format("reshape: no length fits -1: {} to {}", to_string(x.shape()),
                                 to_string(shape)));
  }
  Shape complete = shape;
  complete[unknown] = x.size() / known;
  return complete;
}

Tensor reshape_to(const Tensor& x, const Shape& shape) {
  return x.shape() == shape ? x : make_node(op::Reshape{}, {&x}, {shape, x.dtype()});
}

struct Cut {
  std::int64_t start, count;
};

// Python's rules for start:stop:step along an axis of the given length.
Cut cut(std::int64_t length, std::int64_t start, std::int64_t stop, std::int64_t step) {
  const bool up = step > 0;
  const std::int64_t lowest = up ? 0 : -1;
  const std::int64_t highest = up ? length : length - 1;
  const auto bound = [&](std::int64_t value) {
    return std::clamp(value < 0 ? std::max(value, -length - 1) + length : value, lowest, highest);
  };
  const std::int64_t first = start == Range::kEnd ? (up ? lowest : highest) : bound(start);
  const std::int64_t last = stop == Range::kEnd ? (up ? highest : lowest) : bound(stop);
  const std::int64_t distance = up ? last - first : first - last;
  if (distance <= 0) return {0, 0};
  // Steps beyond the length all take one element; clamped, they can be negated and multiplied.
  const std::int64_t stride = up ? step : -std::max(step, -length);
  return {first, (distance - 1) / stride + 1};
}

Tensor mask_triangle(const char* op, const Tensor& x, std::int64_t diagonal, bool lower) {
  if (detail::require(op, x).rank() < 2) throw_shape(op, "takes at least two dimensions", x);
  const std::int64_t rows = x.dim(-2), columns = x.dim(-1);
  const std::int64_t one = 1;
  const Tensor row = arange(diagonal, rows + diagonal, one, DType::kI64, x.device());
  const Tensor column = arange(std::int64_t{0}, columns, one, DType::kI64, x.device());
  const Tensor below = expand_dims(row, 1);
  return where(lower ? below >= column : below <= column, x, false);
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  return reshape_to(x, complete_shape(detail::require("reshape", x), shape));
}

Tensor flatten(const Tensor& x, int first, int last) {
  if (detail::require("flatten", x).rank() == 0) return reshape_to(x, {1});
  const int begin = normalize_axis("flatten", first, x.rank());
  const int end = normalize_axis("flatten", last, x.rank());
  if (begin > end) throw_shape("flatten", "the first axis is after the last", x);
  Shape shape;
  for (int i = 0; i < x.rank(); ++i) {
    if (i > begin && i <= end)
      shape.back() *= x.shape()[i];
    else
      shape.push_back(x.shape()[i]);
  }
  return reshape_to(x, shape);
}

Tensor transpose(const Tensor& x) {
  Axes reversed;
  for (int i = detail::require("transpose", x).rank() - 1; i >= 0; --i) reversed.push_back(i);
  return transpose(x, reversed);
}

Tensor transpose(const Tensor& x, const Axes& axes) {
  const int rank = detail::require("transpose", x).rank();
  Axes permutation = axes;
  bool identity = axes.rank() == rank;
  for (int i = 0; i < axes.rank(); ++i) {
    permutation[i] = normalize_axis("transpose", axes[i], rank);
    identity &= permutation[i] == i;
  }
  return identity ? x : make_node(op::Transpose{permutation}, {&x});
}

Tensor swapaxes(const Tensor& x, int a, int b) {
  const int rank = detail::require("swapaxes", x).rank();
  Axes order;
  for (int i = 0; i < rank; ++i) order.push_back(i);
  std::swap(order[normalize_axis("swapaxes", a, rank)], order[normalize_axis("swapaxes", b, rank)]);
  return transpose(x, order);
}

Tensor moveaxis(const Tensor& x, int from, int to) {
  const int rank = detail::require("moveaxis", x).rank();
  const int source = normalize_axis("moveaxis", from, rank);
  const int target = normalize_axis("moveaxis", to, rank);
  Axes order;
  for (int i = 0; i < rank; ++i) order.push_back(i);
  order.erase(source);
  order.insert(target, source);
  return transpose(x, order);
}

Tensor squeeze(const Tensor& x) {
  Shape shape;
  for (const std::int64_t length : detail::require("squeeze", x).shape()) {
    if (length != 1) shape.push_back(length);
  }
  return reshape_to(x, shape);
}

Tensor squeeze(const Tensor& x, int axis) { return squeeze(x, Axes{axis}); }

Tensor squeeze(const Tensor& x, const Axes& axes) {
  const Axes normal = detail::normalize_axes("squeeze", axes, detail::require("squeeze", x).rank());
  Shape shape = x.shape();
  for (int i = normal.rank() - 1; i >= 0; --i) {
    const auto axis = static_cast<int>(normal[i]);
    if (shape[axis] != 1) {
      throw ShapeError(
          fmt::format("squeeze: axis {} does not have length 1: {}", axis, to_string(x.shape())));
    }
    shape.erase(axis);
  }
  return reshape_to(x, shape);
}

Tensor expand_dims(const Tensor& x, int axis) { return expand_dims(x, Axes{axis}); }

Tensor expand_dims(const Tensor& x, const Axes& axes) {
  const int rank = detail::require("expand_dims", x).rank() + axes.rank();
  if (rank > kMaxRank) throw_shape("expand_dims", "the result would have too many dimensions", x);
  Shape shape = x.shape();
  for (const std::int64_t axis : detail::normalize_axes("expand_dims", axes, rank)) {
    shape.insert(static_cast<int>(axis), 1);
  }
  return reshape_to(x, shape);
}

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  if (detail::require("broadcast_to", x).shape() == shape) return x;
  return make_node(op::Broadcast{}, {&x}, {shape, x.dtype()});
}

Tensor flip(const Tensor& x, int axis) { return flip(x, Axes{axis}); }

Tensor flip(const Tensor& x, const Axes& axes) {
  const Shape& shape = detail::require("flip", x).shape();
  op::Slice operation{Dims(shape.size(), 0), Dims(shape.size(), 1)};
  for (const std::int64_t normal : detail::normalize_axes("flip", axes, shape.rank())) {
    const auto axis = static_cast<int>(normal);
    operation.start[axis] = std::max<std::int64_t>(shape[axis] - 1, 0);
    operation.step[axis] = -1;
  }
  return axes.empty() ? x : make_node(operation, {&x}, x.spec());
}

Tensor flip(const Tensor& x) {
  Axes axes;
  for (int i = 0; i < detail::require("flip", x).rank(); ++i) axes.push_back(i);
  return flip(x, axes);
}

Tensor slice(const Tensor& x, const Dims& starts, const Dims& stops, const Dims& steps) {
  const Shape& shape = detail::require("slice", x).shape();
  const int given = starts.rank();
  if (given > shape.rank() || stops.rank() != given || (!steps.empty() && steps.rank() != given)) {
    throw_shape("slice", "takes starts, stops and steps for at most all axes", x);
  }
  op::Slice operation{Dims(shape.size(), 0), Dims(shape.size(), 1)};
  Shape result = shape;
  bool whole = true;
  for (int i = 0; i < given; ++i) {
    const std::int64_t step = steps.empty() ? 1 : steps[i];
    if (step == 0) throw_shape("slice", "a step may not be 0", x);
    const Cut part = cut(shape[i], starts[i], stops[i], step);
    operation.start[i] = part.start;
    operation.step[i] = part.count > 1 ? step : 1;
    result[i] = part.count;
    whole &= part.count == shape[i] && operation.step[i] == 1;
  }
  return whole ? x : make_node(operation, {&x}, {result, x.dtype()});
}

Tensor tril(const Tensor& x, std::int64_t diagonal) {
  return mask_triangle("tril", x, diagonal, true);
}
Tensor triu(const Tensor& x, std::int64_t diagonal) {
  return mask_triangle("triu", x, diagonal, false);
}

Tensor stop_gradient(const Tensor& x) { return make_node(op::StopGradient{}, {&x}); }

}  // namespace metal_candle
