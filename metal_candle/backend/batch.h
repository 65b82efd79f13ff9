// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tensors seen as batches of matrices.
#pragma once

#include <cstdint>

#include "metal_candle/backend/strided.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::backend {

inline Dims leading(const Dims& dims, int drop) {
  return Dims(
      std::span<const std::int64_t>(dims.data(), dims.size() - static_cast<std::size_t>(drop)));
}

/// The strides with which an operand's leading axes are read to fill `batch`.
inline Strides batch_strides(const TensorLayout& layout, const Shape& batch, int drop = 2) {
  return broadcast_strides(
      {leading(layout.shape, drop), leading(layout.strides, drop), layout.dtype}, batch);
}

/// The offset in elements of a batch, by its row-major number.
inline std::int64_t batch_offset(const Shape& batch, const Strides& strides, std::int64_t number) {
  std::int64_t offset = 0;
  for (int axis = batch.rank() - 1; axis >= 0; --axis) {
    offset += number % batch[axis] * strides[axis];
    number /= batch[axis];
  }
  return offset;
}

/// Whether batches of `rows` rows follow each other as the rows of one tall matrix do. If so, makes
/// row_stride that matrix's; with one row a batch it had no meaning before.
inline bool fold_rows(const Shape& batch, const Strides& strides, std::int64_t rows,
                      std::int64_t& row_stride) {
  std::int64_t stride = row_stride;
  for (int axis = batch.rank() - 1; axis >= 0 && rows == 1; --axis) {
    if (batch[axis] == 1) continue;
    stride = strides[axis];
    break;
  }
  std::int64_t expected = rows * stride;
  for (int axis = batch.rank() - 1; axis >= 0; --axis) {
    if (batch[axis] == 1) continue;
    if (strides[axis] != expected) return false;
    expected *= batch[axis];
  }
  row_stride = stride;
  return true;
}

inline const void* offset_data(const void* data, std::int64_t elements, DType dtype) {
  return static_cast<const char*>(data) + elements * static_cast<std::int64_t>(size_of(dtype));
}
inline void* offset_data(void* data, std::int64_t elements, DType dtype) {
  return static_cast<char*>(data) + elements * static_cast<std::int64_t>(size_of(dtype));
}

}  // namespace metal_candle::backend
