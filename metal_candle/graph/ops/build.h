// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Building blocks of the public functions, and of gradient rules: nodes without promotion, outputs
// of operations that have several, and the promotion rules themselves.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "metal_candle/graph/tensor.h"

namespace metal_candle::detail {

/// x; throws Error naming `op` if it is an empty handle. For what looks at x before make_node()
/// does.
const Tensor& require(std::string_view op, const Tensor& x);

/// Ascending and not negative. Throws ShapeError naming `op` for one out of range or given twice.
[[nodiscard]] Axes normalize_axes(const char* op, const Axes& axes, int rank);

/// x as it is, or cast.
[[nodiscard]] Tensor cast_to(const Tensor& x, DType dtype);
/// Integers and bool become f32.
[[nodiscard]] Tensor to_floating(const Tensor& x);
/// bool, i8 and u8 become i32: what sums and products accumulate in.
[[nodiscard]] Tensor to_accumulator(const Tensor& x);
/// Indices as i32 or i64: smaller types become i32, u32 becomes i64. Throws DTypeError naming `op`
/// for floating and bool ones.
[[nodiscard]] Tensor to_indices(std::string_view op, const Tensor& indices);

/// The scalar as a value of dtype. Throws DTypeError naming `op` when it does not fit an integer
/// dtype.
[[nodiscard]] Scalar fit_scalar(std::string_view op, Scalar value, DType dtype);
/// A 0-d constant.
[[nodiscard]] Tensor constant(std::string_view op, Scalar value, DType dtype, Device device);
/// The dtype in which two operands meet (see elementwise.h). Throws Error naming `op` unless one of
/// them is a tensor.
[[nodiscard]] DType meeting_dtype(std::string_view op, const Operand& a, const Operand& b);
/// The operand as a tensor of dtype; a scalar is put on device.
[[nodiscard]] Tensor materialize(std::string_view op, const Operand& operand, DType dtype,
                                 Device device);

/// Output 0 of an operation that has several, through Pick.
[[nodiscard]] Tensor first_output(Operation operation, std::initializer_list<const Tensor*> inputs);
[[nodiscard]] Tensor first_output(Operation operation, std::span<const Tensor* const> inputs);
/// All outputs of one.
[[nodiscard]] std::vector<Tensor> make_outputs(Operation operation,
                                               std::span<const Tensor* const> inputs);
[[nodiscard]] inline std::vector<Tensor> make_outputs(Operation operation,
                                                      std::initializer_list<const Tensor*> inputs) {
  return make_outputs(std::move(operation),
                      std::span<const Tensor* const>(inputs.begin(), inputs.size()));
}

}  // namespace metal_candle::detail
