// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The members of Tensor that build nodes: each is one of the free functions.
#include <fmt/format.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/layout.h"

namespace metal_candle {

Tensor Tensor::operator[](std::int64_t index) const {
  if (detail::require("index", *this).rank() == 0) {
    throw ShapeError("index: a tensor of shape [] has no axis to index");
  }
  const std::int64_t length = shape()[0];
  if (index < -length || index >= length) {
    throw ShapeError(
        fmt::format("index: {} is out of range for shape {}", index, to_string(shape())));
  }
  const std::int64_t position = index < 0 ? index + length : index;
  return squeeze(metal_candle::slice(*this, {position}, {position + 1}), 0);
}

Tensor Tensor::slice(std::initializer_list<Range> ranges) const {
  return slice(std::span<const Range>(ranges.begin(), ranges.size()));
}

Tensor Tensor::slice(std::span<const Range> ranges) const {
  if (ranges.size() > detail::require("slice", *this).shape().size()) {
    throw ShapeError(
        fmt::format("slice: {} ranges for shape {}", ranges.size(), to_string(shape())));
  }
  Dims starts, stops, steps;
  for (const Range& range : ranges) {
    starts.push_back(range.start);
    stops.push_back(range.stop);
    steps.push_back(range.step);
  }
  return metal_candle::slice(*this, starts, stops, steps);
}

Tensor Tensor::reshape(const Shape& shape) const { return metal_candle::reshape(*this, shape); }
Tensor Tensor::transpose() const { return metal_candle::transpose(*this); }
Tensor Tensor::astype(DType dtype) const { return metal_candle::astype(*this, dtype); }

}  // namespace metal_candle
