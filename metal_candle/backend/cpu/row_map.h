// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Where the rows of a strided tensor begin, and how kernels over rows share their work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "metal_candle/backend/strided.h"
#include "metal_candle/core/error.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::backend::cpu {

/// Maps the row-major number of an element of `sizes` to its offset, in elements.
class RowMap {
 public:
  RowMap(const Dims& sizes, const Dims& strides) : sizes_(sizes), strides_(strides) {
    collapse_axes(sizes_, {&strides_, 1});
  }
  /// The rows along the last axis, or along any one axis.
  explicit RowMap(const TensorLayout& layout) : RowMap(layout, layout.shape.rank() - 1) {}
  RowMap(const TensorLayout& layout, int axis)
      : RowMap(without(layout.shape, axis), without(layout.strides, axis)) {}

  [[nodiscard]] std::int64_t operator()(std::int64_t row) const {
    std::int64_t offset = 0;
    for (int axis = sizes_.rank() - 1; axis > 0; --axis) {
      offset += row % sizes_[axis] * strides_[axis];
      row /= sizes_[axis];
    }
    return offset + row * strides_[0];
  }

  /// All but one axis.
  static Dims without(const Dims& dims, int axis) {
    Dims rest;
    for (int i = 0; i < dims.rank(); ++i) {
      if (i != axis) rest.push_back(dims[i]);
    }
    return rest;
  }

 private:
  Dims sizes_, strides_;  // At least one axis.
};

/// Rows a thread should take at once, so that starting it is worth its while: about 16K elements.
inline std::int64_t row_grain(std::int64_t row_length) {
  return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, row_length));
}

/// Whether an output of contiguous rows should be written past the caches: it would not stay in
/// them, and writing around them saves reading what is overwritten. Vectors must be aligned.
inline bool should_stream(const TensorLayout& output) {
  constexpr std::int64_t kCacheBytes = std::int64_t{16} << 20;
  const auto element = static_cast<std::int64_t>(size_of(output.dtype));
  return !output.shape.empty() && output.shape.back() * element % 64 == 0 &&
         num_elements(output.shape) * element > kCacheBytes;
}

/// Calls fn(T{}) with T the C++ type of a floating dtype. Throws DTypeError for another.
template <typename Fn>
void dispatch_floating(const char* op, DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kF32:
      return fn(float{});
    case DType::kF16:
      return fn(Float16{});
    case DType::kBF16:
      return fn(BFloat16{});
    default:
      throw DTypeError(std::string(op) + ": expected a floating dtype, not " +
                       std::string(name(dtype)));
  }
}

}  // namespace metal_candle::backend::cpu
