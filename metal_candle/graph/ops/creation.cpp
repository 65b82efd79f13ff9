// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tensors from nothing.
#include "metal_candle/graph/ops/creation.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"
#include "metal_candle/graph/ops/elementwise.h"
#include "metal_candle/graph/ops/layout.h"

namespace metal_candle {
namespace {

constexpr std::span<const Tensor* const> kNoInputs;

// How many of start, start + step, ... come before stop.
std::int64_t arange_length(Scalar start, Scalar stop, Scalar step, bool exact) {
  if (step.real == 0 || std::isnan(step.real)) {
    throw ShapeError(fmt::format("arange: the step is {}", step.real));
  }
  if (exact) {
    // Differences of 64-bit integers fit the unsigned type, whatever their signs.
    const bool up = step.integer > 0;
    if (up ? start.integer >= stop.integer : start.integer <= stop.integer) return 0;
    const auto from = static_cast<std::uint64_t>(up ? start.integer : stop.integer);
    const auto to = static_cast<std::uint64_t>(up ? stop.integer : start.integer);
    const auto stride = up ? static_cast<std::uint64_t>(step.integer)
                           : std::uint64_t{0} - static_cast<std::uint64_t>(step.integer);
    return static_cast<std::int64_t>((to - from - 1) / stride + 1);
  }
  const double count = std::ceil((stop.real - start.real) / step.real);
  if (std::isnan(count) || count > 9e18) {
    throw ShapeError(
        fmt::format("arange: from {} to {} by {} never ends", start.real, stop.real, step.real));
  }
  return count > 0 ? static_cast<std::int64_t>(count) : 0;
}

bool is_exact(Scalar s) { return s.real == static_cast<double>(s.integer); }

}  // namespace

namespace detail {

Tensor make_full(const Shape& shape, Scalar value, DType dtype, Device device) {
  return make_node(op::Full{fit_scalar("full", value, dtype)}, kNoInputs, {shape, dtype}, device);
}

Tensor make_arange(Scalar start, Scalar stop, Scalar step, DType dtype, Device device) {
  const bool exact = is_exact(start) && is_exact(stop) && is_exact(step);
  const std::int64_t length = arange_length(start, stop, step, exact);
  return make_node(op::Arange{start, step}, kNoInputs, {Shape{length}, dtype}, device);
}

}  // namespace detail

Tensor zeros(const Shape& shape, DType dtype, Device device) {
  return detail::make_full(shape, Scalar{}, dtype, device);
}

Tensor ones(const Shape& shape, DType dtype, Device device) {
  return detail::make_full(shape, Scalar::from_integer(1), dtype, device);
}

Tensor zeros_like(const Tensor& x, std::optional<DType> dtype) {
  detail::require("zeros_like", x);
  return zeros(x.shape(), dtype.value_or(x.dtype()), x.device());
}

Tensor ones_like(const Tensor& x, std::optional<DType> dtype) {
  detail::require("ones_like", x);
  return ones(x.shape(), dtype.value_or(x.dtype()), x.device());
}

Tensor linspace(double start, double stop, std::int64_t count, bool endpoint, DType dtype,
                Device device) {
  if (count < 0) throw ShapeError(fmt::format("linspace: {} numbers", count));
  if (!is_floating(dtype)) {
    throw DTypeError(fmt::format("linspace: gives floating dtypes, not {}", name(dtype)));
  }
  const std::int64_t intervals = endpoint ? count - 1 : count;
  const double step = intervals > 0 ? (stop - start) / static_cast<double>(intervals) : 0;
  const Tensor numbers =
      detail::make_node(op::Arange{Scalar::from_real(start), Scalar::from_real(step)}, kNoInputs,
                        {Shape{count}, DType::kF32}, device);
  if (!endpoint || count < 2) return astype(numbers, dtype);
  // start + (count - 1) * step may miss stop by a rounding.
  const Tensor index = detail::make_arange(Scalar{}, Scalar::from_integer(count),
                                           Scalar::from_integer(1), DType::kI64, device);
  return astype(where(index == count - 1, stop, numbers), dtype);
}

Tensor eye(std::int64_t rows, std::optional<std::int64_t> columns, std::int64_t diagonal,
           DType dtype, Device device) {
  const std::int64_t width = columns.value_or(rows);
  if (rows < 0 || width < 0) {
    throw ShapeError(fmt::format("eye: lengths may not be negative: [{}, {}]", rows, width));
  }
  const Tensor row = arange(diagonal, rows + diagonal, std::int64_t{1}, DType::kI64, device);
  const Tensor column = arange(std::int64_t{0}, width, std::int64_t{1}, DType::kI64, device);
  return astype(expand_dims(row, 1) == column, dtype);
}

Tensor from_blob(std::span<const std::byte> bytes, const TensorSpec& spec,
                 std::shared_ptr<const void> owner, Device device) {
  if (bytes.size() != spec.bytes()) {
    throw ShapeError(fmt::format("from_blob: {}{} takes {} bytes, not {}", name(spec.dtype),
                                 to_string(spec.shape), spec.bytes(), bytes.size()));
  }
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % size_of(spec.dtype) != 0) {
    throw Error(fmt::format("from_blob: the memory is not aligned to {} bytes, as {} must be",
                            size_of(spec.dtype), name(spec.dtype)));
  }
  Value value;
  value.storage = detail::borrow_storage(device, bytes, std::move(owner));
  value.strides = contiguous_strides(spec.shape);
  return Tensor(Node::make_leaf(spec, std::move(value)));
}

}  // namespace metal_candle
