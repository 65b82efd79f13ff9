// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Promotion, and nodes with several outputs.
#include "metal_candle/graph/ops/build.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/shape_rules.h"

namespace metal_candle::detail {
namespace {

template <typename T>
constexpr bool fits(std::int64_t value) {
  return value >= static_cast<std::int64_t>(std::numeric_limits<T>::min()) &&
         value <= static_cast<std::int64_t>(std::numeric_limits<T>::max());
}

bool fits(std::int64_t value, DType dtype) {
  switch (dtype) {
    case DType::kU8:
      return fits<std::uint8_t>(value);
    case DType::kI8:
      return fits<std::int8_t>(value);
    case DType::kI32:
      return fits<std::int32_t>(value);
    case DType::kU32:
      return fits<std::uint32_t>(value);
    default:
      return true;
  }
}

// The dtype that a scalar takes beside a tensor.
DType weak_dtype(DType tensor, DType scalar_kind) {
  if (is_floating(tensor) || scalar_kind == DType::kBool) return tensor;
  if (scalar_kind == DType::kF32) return DType::kF32;
  return tensor == DType::kBool ? DType::kI32 : tensor;
}

}  // namespace

const Tensor& require(std::string_view op, const Tensor& x) {
  if (x.empty()) throw Error(fmt::format("{}: an operand is an empty tensor", op));
  return x;
}

Axes normalize_axes(const char* op, const Axes& axes, int rank) {
  Axes result = axes;
  for (std::int64_t& axis : result) axis = normalize_axis(op, axis, rank);
  std::sort(result.begin(), result.end());
  if (std::adjacent_find(result.begin(), result.end()) != result.end()) {
    throw ShapeError(fmt::format("{}: an axis is given twice: {}", op, to_string(axes)));
  }
  return result;
}

Tensor cast_to(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  return make_node(op::Cast{}, {&x}, {Shape{}, dtype});
}

Tensor to_floating(const Tensor& x) { return is_floating(x.dtype()) ? x : cast_to(x, DType::kF32); }

Tensor to_accumulator(const Tensor& x) {
  return size_of(x.dtype()) == 1 ? cast_to(x, DType::kI32) : x;
}

Tensor to_indices(std::string_view op, const Tensor& indices) {
  const DType dtype = require(op, indices).dtype();
  if (dtype == DType::kI32 || dtype == DType::kI64) return indices;
  if (!is_integer(dtype)) {
    throw DTypeError(fmt::format("{}: indices must be integers, not {}{}", op, name(dtype),
                                 to_string(indices.shape())));
  }
  return cast_to(indices, dtype == DType::kU32 ? DType::kI64 : DType::kI32);
}

Scalar fit_scalar(std::string_view op, Scalar value, DType dtype) {
  if (is_floating(dtype)) return value;
  if (dtype == DType::kBool) return Scalar::from_integer(value.real != 0 ? 1 : 0);
  // Scalar::from_real() gives 0 for what 64 bits cannot hold.
  const bool lost = value.integer == 0 && !(std::abs(value.real) < 1);
  if (lost || !fits(value.integer, dtype)) {
    throw DTypeError(fmt::format("{}: the scalar {} does not fit {}", op, value.real, name(dtype)));
  }
  return Scalar::from_integer(value.integer);
}

Tensor constant(std::string_view op, Scalar value, DType dtype, Device device) {
  return make_node(op::Full{fit_scalar(op, value, dtype)}, std::span<const Tensor* const>(),
                   {Shape{}, dtype}, device);
}

DType meeting_dtype(std::string_view op, const Operand& a, const Operand& b) {
  if (a.tensor() && b.tensor()) {
    return promote(require(op, *a.tensor()).dtype(), require(op, *b.tensor()).dtype());
  }
  if (a.tensor()) return weak_dtype(require(op, *a.tensor()).dtype(), b.scalar_kind());
  if (b.tensor()) return weak_dtype(require(op, *b.tensor()).dtype(), a.scalar_kind());
  throw Error(fmt::format("{}: at least one operand must be a tensor", op));
}

Tensor materialize(std::string_view op, const Operand& operand, DType dtype, Device device) {
  if (operand.tensor()) return cast_to(require(op, *operand.tensor()), dtype);
  return constant(op, operand.scalar(), dtype, device);
}

Tensor first_output(Operation operation, std::span<const Tensor* const> inputs) {
  const Device device =
      inputs.empty() || inputs[0]->empty() ? default_device() : inputs[0]->device();
  const Tensor tuple = make_node(std::move(operation), inputs, {}, device);
  return make_node(op::Pick{0}, {&tuple}, tuple.spec());
}

Tensor first_output(Operation operation, std::initializer_list<const Tensor*> inputs) {
  return first_output(std::move(operation),
                      std::span<const Tensor* const>(inputs.begin(), inputs.size()));
}

std::vector<Tensor> make_outputs(Operation operation, std::span<const Tensor* const> inputs) {
  const Device device =
      inputs.empty() || inputs[0]->empty() ? default_device() : inputs[0]->device();
  const Tensor tuple = make_node(std::move(operation), inputs, {}, device);
  std::vector<const TensorSpec*> specs;
  specs.reserve(inputs.size());
  for (const Tensor* input : inputs) specs.push_back(&input->spec());
  const OutputSpecs outputs = infer_outputs(tuple.node()->operation(), specs, {});
  std::vector<Tensor> picks;
  picks.reserve(static_cast<std::size_t>(outputs.count));
  for (int i = 0; i < outputs.count; ++i) {
    picks.push_back(make_node(op::Pick{i}, {&tuple}, outputs.specs[static_cast<std::size_t>(i)]));
  }
  return picks;
}

}  // namespace metal_candle::detail
