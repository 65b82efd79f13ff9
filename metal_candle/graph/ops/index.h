// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading and writing by index. Index tensors have an integer dtype (DTypeError otherwise);
// negative indices count from the end; one out of range is an error of the device, reported by
// whoever waits for the result.
#pragma once

#include <cstdint>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// x with `axis` replaced by the shape of indices: out[.., i.., ..] = x[.., indices[i..], ..].
[[nodiscard]] Tensor take(const Tensor& x, const Tensor& indices, int axis);
/// Of x flattened.
[[nodiscard]] Tensor take(const Tensor& x, const Tensor& indices);
/// out[.., i, ..] = x[.., indices[.., i, ..], ..]. Shapes agree but for axis.
[[nodiscard]] Tensor take_along_axis(const Tensor& x, const Tensor& indices, int axis);

/// x with updates (shaped as take(x, indices, axis); cast to the dtype of x) added where take()
/// reads. Repeated indices add up, in order of position.
[[nodiscard]] Tensor scatter_add(const Tensor& x, const Tensor& indices, const Tensor& updates,
                                 int axis = 0);
/// The same for take_along_axis().
[[nodiscard]] Tensor scatter_add_along_axis(const Tensor& x, const Tensor& indices,
                                            const Tensor& updates, int axis);

/// x with the elements at start + i * step replaced by update (cast to the dtype of x). Starts may
/// be negative; steps default to 1. Throws ShapeError when the block does not lie within x. Done in
/// place when nobody else holds x.
[[nodiscard]] Tensor slice_update(const Tensor& x, const Tensor& update, const Dims& starts,
                                  const Dims& steps = {});

/// The block of the given lengths (one an axis of x) that begins at starts[i] on axes[i] and at 0
/// elsewhere. starts (integer [n], or [] for one axis) are clamped so that the block fits.
[[nodiscard]] Tensor dynamic_slice(const Tensor& x, const Tensor& starts, const Axes& axes,
                                   const Shape& lengths);
/// x with that block replaced by update (cast to the dtype of x). Done in place when nobody else
/// holds x.
[[nodiscard]] Tensor dynamic_slice_update(const Tensor& x, const Tensor& update,
                                          const Tensor& starts, const Axes& axes);

/// [shape of indices, classes]: 1 at the index, else 0; a row of zeros for a negative index or one
/// out of range.
[[nodiscard]] Tensor one_hot(const Tensor& indices, std::int64_t classes,
                             DType dtype = DType::kF32);

}  // namespace metal_candle
