// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What is known of a tensor before it is computed, and how a computed one lies in memory.
#pragma once

#include "metal_candle/core/dtype.h"
#include "metal_candle/core/shape.h"

namespace metal_candle {

/// Shape and element type.
struct TensorSpec {
  Shape shape;
  DType dtype = DType::kF32;

  [[nodiscard]] std::size_t bytes() const {
    return static_cast<std::size_t>(num_elements(shape)) * size_of(dtype);
  }
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

/// A spec with strides, in elements. Where it begins is said elsewhere.
struct TensorLayout {
  Shape shape;
  Strides strides;
  DType dtype = DType::kF32;

  static TensorLayout contiguous(const TensorSpec& spec) {
    return {spec.shape, contiguous_strides(spec.shape), spec.dtype};
  }
  [[nodiscard]] bool is_contiguous() const { return metal_candle::is_contiguous(shape, strides); }
  friend bool operator==(const TensorLayout&, const TensorLayout&) = default;
};

}  // namespace metal_candle
