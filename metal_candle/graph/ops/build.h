// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Building blocks of the public functions, and of gradient rules: nodes without promotion, outputs
// of operations that have several, and the promotion rules themselves.
#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "metal_candle/graph/tensor.h"

namespace metal_candle::detail {

/// x as it is, or cast.
[[nodiscard]] Tensor cast_to(const Tensor& x, DType dtype);
/// Integers and bool become f32.
[[nodiscard]] Tensor to_floating(const Tensor& x);
/// bool, i8 and u8 become i32: what sums and products accumulate in.
[[nodiscard]] Tensor to_accumulator(const Tensor& x);
/// Indices as i32 or i64: smaller types become i32, u32 becomes i64. Throws DTypeError naming `op`
/// for floating and bool ones.
[[nodiscard]] Tensor to_indices(const char* op, const Tensor& indices);

/// A 0-d constant. Throws DTypeError naming `op` when an integer does not fit dtype.
[[nodiscard]] Tensor constant(std::string_view op, Scalar value, DType dtype, Device device);
/// The dtype in which two operands meet (see elementwise.h). Throws Error naming `op` unless one of
/// them is a tensor.
[[nodiscard]] DType meeting_dtype(std::string_view op, const Operand& a, const Operand& b);
/// The operand as a tensor of dtype on device.
[[nodiscard]] Tensor materialize(std::string_view op, const Operand& operand, DType dtype,
                                 Device device);

/// All outputs of an operation that has several, through Pick.
[[nodiscard]] std::vector<Tensor> make_outputs(Operation operation,
                                               std::span<const Tensor* const> inputs);
[[nodiscard]] inline std::vector<Tensor> make_outputs(Operation operation,
                                                      std::initializer_list<const Tensor*> inputs) {
  return make_outputs(std::move(operation),
                      std::span<const Tensor* const>(inputs.begin(), inputs.size()));
}

}  // namespace metal_candle::detail
