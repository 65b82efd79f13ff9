// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The table of elementwise functions of floats (kernels/element_table.h), as the host asks it.
#pragma once

#include <string_view>

#include "metal_candle/backend/gpu/kernels/element_table.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::gpu {

/// What gives a Unary, Binary, Select or SwiGlu whose first operand has floating dtype `x`, and of
/// bool what is as of the floats 0 and 1; or kNoElementCode.
[[nodiscard]] ElementCode element_code(const Operation& operation, DType x);

/// It as an expression of x, y and z in the dialect (dialect.h); empty where it is none.
[[nodiscard]] std::string_view expression_of(ElementCode code);

/// What rounds to a dtype of 16 bits.
[[nodiscard]] inline ElementCode rounding_to(DType dtype) {
  return dtype == DType::kF16 ? kElementRoundF16 : kElementRoundBF16;
}
[[nodiscard]] inline bool is_half(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16;
}

}  // namespace metal_candle::backend::gpu
