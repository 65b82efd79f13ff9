// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Copies of strided tensors to contiguous ones, of any element size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "metal_candle/core/shape.h"

namespace metal_candle::backend::cpu {

/// The elements at `shape` and `strides`, in row-major order. Immutable.
class StridedCopy {
 public:
  /// `offset`, in elements, is where element 0 lies from the address given to run().
  StridedCopy(const Shape& shape, const Strides& strides, std::int64_t offset,
              std::size_t element_bytes);

  /// Uses parallel_for(). Nothing happens when a dense source is copied onto itself.
  void run(const void* source, void* target) const;

  /// Whether the last axis is not the dense one, so that reading in row-major order would touch a
  /// cache line for each element.
  [[nodiscard]] bool is_transposed() const { return dense_axis_ >= 0; }

 private:
  Shape shape_;  // Collapsed.
  Strides strides_;
  std::int64_t offset_;
  std::size_t element_bytes_;
  std::int64_t count_;
  int dense_axis_ = -1;  // An axis before the last to be read in blocks with it.
  bool dense_ = false;
};

}  // namespace metal_candle::backend::cpu
