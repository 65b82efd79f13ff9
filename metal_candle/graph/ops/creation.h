// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tensors from nothing. All but eye(), linspace() and from_blob() are one lazy node without memory
// of its own until evaluated; their contents are attributes of the graph (see Tensor(value) for a
// value that changes from step to step).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

namespace detail {
template <ScalarValue T>
constexpr Scalar to_scalar(T value) {
  if constexpr (std::floating_point<T>)
    return Scalar::from_real(static_cast<double>(value));
  else
    return Scalar::from_integer(static_cast<std::int64_t>(value));
}
/// The dtype a C++ scalar gets when nothing else says: bool, i32 (i64 for 64-bit types), f32.
template <ScalarValue T>
constexpr DType default_dtype() {
  if constexpr (std::same_as<T, bool>)
    return DType::kBool;
  else if constexpr (std::floating_point<T>)
    return DType::kF32;
  else
    return sizeof(T) == 8 ? DType::kI64 : DType::kI32;
}
Tensor make_full(const Shape& shape, Scalar value, DType dtype, Device device);
Tensor make_arange(Scalar start, Scalar stop, Scalar step, DType dtype, Device device);
}  // namespace detail

/// Every element is value. Without a dtype: bool, i32 (i64 for 64-bit types) or f32 as the C++ type
/// is. Throws DTypeError when an integer value does not fit an integer dtype.
template <ScalarValue T>
[[nodiscard]] Tensor full(const Shape& shape, T value, DType dtype = detail::default_dtype<T>(),
                          Device device = default_device()) {
  return detail::make_full(shape, detail::to_scalar(value), dtype, device);
}
[[nodiscard]] Tensor zeros(const Shape& shape, DType dtype = DType::kF32,
                           Device device = default_device());
[[nodiscard]] Tensor ones(const Shape& shape, DType dtype = DType::kF32,
                          Device device = default_device());

/// The shape and device of x, and its dtype unless one is given.
[[nodiscard]] Tensor zeros_like(const Tensor& x, std::optional<DType> dtype = {});
[[nodiscard]] Tensor ones_like(const Tensor& x, std::optional<DType> dtype = {});
template <ScalarValue T>
[[nodiscard]] Tensor full_like(const Tensor& x, T value, std::optional<DType> dtype = {}) {
  return full(x.shape(), value, dtype.value_or(x.dtype()), x.device());
}

/// start, start + step, ... up to but without stop: 1-d, of ceil((stop - start) / step) elements,
/// or none when that is negative. Throws ShapeError when step is 0, DTypeError for bool.
template <ScalarValue T>
[[nodiscard]] Tensor arange(T start, T stop, T step = T{1},
                            DType dtype = detail::default_dtype<T>(),
                            Device device = default_device()) {
  return detail::make_arange(detail::to_scalar(start), detail::to_scalar(stop),
                             detail::to_scalar(step), dtype, device);
}
/// 0, 1, ... up to but without stop.
template <ScalarValue T>
[[nodiscard]] Tensor arange(T stop) {
  return arange(T{0}, stop);
}

/// `count` evenly spaced numbers from start to stop: stop is the last of them when endpoint is set,
/// else the one after. A floating dtype.
[[nodiscard]] Tensor linspace(double start, double stop, std::int64_t count, bool endpoint = true,
                              DType dtype = DType::kF32, Device device = default_device());

/// [rows, columns] (square without columns) with 1 on the given diagonal (above the main one when
/// positive), else 0.
[[nodiscard]] Tensor eye(std::int64_t rows, std::optional<std::int64_t> columns = {},
                         std::int64_t diagonal = 0, DType dtype = DType::kF32,
                         Device device = default_device());

/// A tensor in memory of yours, without a copy (where the device reads host memory): row-major
/// elements, which are never written to and must not change while any tensor reads them. `owner`
/// is held as long as that; null promises that the memory outlives them all. Throws ShapeError
/// unless there are as many bytes as the spec says, Error when they are not aligned for its dtype.
[[nodiscard]] Tensor from_blob(std::span<const std::byte> bytes, const TensorSpec& spec,
                               std::shared_ptr<const void> owner, Device device = default_device());

}  // namespace metal_candle
