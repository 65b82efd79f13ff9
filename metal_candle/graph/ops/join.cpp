// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Joining, splitting, padding and repeating.
#include <fmt/format.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/layout.h"

namespace metal_candle {
namespace {

using detail::make_node;

// x seen as [before, length of axis, after].
struct AxisView {
  AxisView(const Shape& shape, int axis) : length(shape[axis]) {
    for (int i = 0; i < axis; ++i) before *= shape[i];
    for (int i = axis + 1; i < shape.rank(); ++i) after *= shape[i];
  }
  std::int64_t before = 1, length, after = 1;
};

Tensor slice_axis(const Tensor& x, int axis, std::int64_t start, std::int64_t stop) {
  Dims starts(static_cast<std::size_t>(axis) + 1, 0);
  Dims stops(static_cast<std::size_t>(axis) + 1, Range::kEnd);
  starts[axis] = start;
  stops[axis] = stop;
  return slice(x, starts, stops);
}

void require_some(const char* op, std::span<const Tensor> tensors) {
  if (tensors.empty()) throw ShapeError(fmt::format("{}: takes at least one operand", op));
  for (const Tensor& tensor : tensors) detail::require(op, tensor);
}

}  // namespace

Tensor concatenate(std::span<const Tensor> tensors, int axis) {
  require_some("concatenate", tensors);
  const int normal = normalize_axis("concatenate", axis, tensors[0].rank());
  if (tensors.size() == 1) return tensors[0];
  DType dtype = tensors[0].dtype();
  for (const Tensor& tensor : tensors) dtype = promote(dtype, tensor.dtype());
  std::vector<Tensor> casts;
  std::vector<const Tensor*> inputs;
  casts.reserve(tensors.size());
  inputs.reserve(tensors.size());
  for (const Tensor& tensor : tensors) {
    casts.push_back(detail::cast_to(tensor, dtype));
    inputs.push_back(&casts.back());
  }
  return make_node(op::Concatenate{normal}, std::span<const Tensor* const>(inputs), {},
                   tensors[0].device());
}

Tensor concatenate(std::initializer_list<Tensor> tensors, int axis) {
  return concatenate(std::span<const Tensor>(tensors.begin(), tensors.size()), axis);
}

Tensor stack(std::span<const Tensor> tensors, int axis) {
  require_some("stack", tensors);
  std::vector<Tensor> expanded;
  expanded.reserve(tensors.size());
  const int normal = normalize_axis("stack", axis, tensors[0].rank() + 1);
  for (const Tensor& tensor : tensors) {
    if (!(tensor.shape() == tensors[0].shape())) {
      throw ShapeError(fmt::format("stack: shapes differ: {}, {}", to_string(tensors[0].shape()),
                                   to_string(tensor.shape())));
    }
    expanded.push_back(expand_dims(tensor, normal));
  }
  return concatenate(expanded, normal);
}

Tensor stack(std::initializer_list<Tensor> tensors, int axis) {
  return stack(std::span<const Tensor>(tensors.begin(), tensors.size()), axis);
}

std::vector<Tensor> split(const Tensor& x, std::int64_t parts, int axis) {
  const int normal = normalize_axis("split", axis, detail::require("split", x).rank());
  const std::int64_t length = x.shape()[normal];
  if (parts <= 0 || length % parts != 0) {
    throw ShapeError(fmt::format("split: {} equal parts do not fit axis {} of {}", parts, normal,
                                 to_string(x.shape())));
  }
  const std::int64_t width = length / parts;
  std::vector<Tensor> result;
  result.reserve(static_cast<std::size_t>(parts));
  for (std::int64_t i = 0; i < parts; ++i) {
    result.push_back(slice_axis(x, normal, i * width, (i + 1) * width));
  }
  return result;
}

std::vector<Tensor> split_at(const Tensor& x, std::span<const std::int64_t> positions, int axis) {
  const int normal = normalize_axis("split_at", axis, detail::require("split_at", x).rank());
  std::vector<Tensor> result;
  result.reserve(positions.size() + 1);
  std::int64_t start = 0;
  for (const std::int64_t position : positions) {
    if (position < start || position > x.shape()[normal]) {
      throw ShapeError(fmt::format("split_at: position {} does not fit axis {} of {}", position,
                                   normal, to_string(x.shape())));
    }
    result.push_back(slice_axis(x, normal, start, position));
    start = position;
  }
  result.push_back(slice_axis(x, normal, start, x.shape()[normal]));
  return result;
}

Tensor detail::make_pad(const Tensor& x, const Dims& low, const Dims& high, Scalar value) {
  const Shape& shape = require("pad", x).shape();
  bool valid = low.rank() == shape.rank() && high.rank() == shape.rank();
  bool changes = false;
  Shape padded = shape;
  for (int i = 0; valid && i < shape.rank(); ++i) {
    valid = low[i] >= 0 && high[i] >= 0;
    changes |= low[i] != 0 || high[i] != 0;
    padded[i] += low[i] + high[i];
  }
  if (!valid) {
    throw ShapeError(fmt::format("pad: widths {} and {} do not fit {}", to_string(low),
                                 to_string(high), to_string(shape)));
  }
  if (!changes) return x;
  // A floating value in an integer tensor would be cut off without a word.
  const Scalar fitted = fit_scalar("pad", value, x.dtype());
  if (is_integer(x.dtype()) && fitted.real != value.real) {
    throw DTypeError(
        fmt::format("pad: the scalar {} does not fit {}", value.real, name(x.dtype())));
  }
  return make_node(op::Pad{low, fitted}, {&x}, {padded, x.dtype()});
}

Tensor tile(const Tensor& x, const Dims& counts) {
  const int rank = std::max(detail::require("tile", x).rank(), counts.rank());
  Shape shape(static_cast<std::size_t>(rank), 1);
  std::copy_backward(x.shape().begin(), x.shape().end(), shape.end());
  Tensor result = reshape(x, shape);
  for (int i = 0; i < counts.rank(); ++i) {
    const int axis = rank - counts.rank() + i;
    const std::int64_t count = counts[i];
    if (count < 0) {
      throw ShapeError(
          fmt::format("tile: counts {} do not fit {}", to_string(counts), to_string(x.shape())));
    }
    if (count == 1) continue;
    const AxisView view(shape, axis);
    shape[axis] *= count;
    const std::int64_t block = view.length * view.after;
    result = reshape(result, {view.before, 1, block});
    result = reshape(broadcast_to(result, {view.before, count, block}), shape);
  }
  return result;
}

Tensor repeat(const Tensor& x, std::int64_t count, int axis) {
  const int normal = normalize_axis("repeat", axis, detail::require("repeat", x).rank());
  if (count < 0) {
    throw ShapeError(fmt::format("repeat: {} times {}", count, to_string(x.shape())));
  }
  if (count == 1) return x;
  const AxisView view(x.shape(), normal);
  Shape shape = x.shape();
  shape[normal] *= count;
  const Tensor apart = reshape(x, {view.before, view.length, 1, view.after});
  return reshape(broadcast_to(apart, {view.before, view.length, count, view.after}), shape);
}

Tensor roll(const Tensor& x, std::int64_t shift, int axis) {
  const int normal = normalize_axis("roll", axis, detail::require("roll", x).rank());
  const std::int64_t length = x.shape()[normal];
  if (length == 0 || shift % length == 0) return x;
  const std::int64_t cut = shift % length > 0 ? length - shift % length : -(shift % length);
  return concatenate({slice_axis(x, normal, cut, length), slice_axis(x, normal, 0, cut)}, normal);
}

}  // namespace metal_candle
