// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The table of elementwise functions of floats (kernels/element_table.h), as the host asks it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "metal_candle/backend/gpu/kernels/element_table.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::gpu {

/// What gives a Unary, Binary, Select or SwiGlu whose first operand has floating dtype `x`, and of
/// bool what is as of the floats 0 and 1; or kNoElementCode.
[[nodiscard]] ElementCode element_code(const Operation& operation, DType x);

/// It as an expression of x, y and z in the dialect (dialect.h); empty where it is none.
[[nodiscard]] std::string_view expression_of(ElementCode code);

/// What becomes of an instruction of a program in which a product that only a sum or a difference
/// reads is part of that.
struct Contraction {
  bool is_swallowed = false;          // A product; nothing is left of it.
  ElementCode code = kNoElementCode;  // Of a sum: of registers `from` instead.
  std::array<std::int32_t, 3> from{};
};
/// By instruction. Compilers are not asked to do it, as they decide each for themselves.
[[nodiscard]] std::vector<Contraction> contractions(const ElementwiseProgram& program);

/// What rounds to a dtype of 16 bits.
[[nodiscard]] inline ElementCode rounding_to(DType dtype) {
  return dtype == DType::kF16 ? kElementRoundF16 : kElementRoundBF16;
}
[[nodiscard]] inline bool is_half(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16;
}

}  // namespace metal_candle::backend::gpu
