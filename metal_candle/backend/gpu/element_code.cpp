// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See element_code.h.
#include "metal_candle/backend/gpu/element_code.h"

namespace metal_candle::backend::gpu {
namespace {

ElementCode code_of(UnaryKind kind, DType x) {
  if (is_half(x) && kind == UnaryKind::kExp) return kElementExp16;
  if (is_half(x) && kind == UnaryKind::kSigmoid) return kElementSigmoid16;
  if (x == DType::kBool) {
    const bool negates = kind == UnaryKind::kLogicalNot || kind == UnaryKind::kBitwiseNot;
    return negates ? kElementLogicalNot : kNoElementCode;
  }
  switch (kind) {
#define MC_CASE(name, expression) \
  case UnaryKind::k##name:        \
    return kElement##name;
    MC_UNARY_FUNCTIONS(MC_CASE)
#undef MC_CASE
    case UnaryKind::kBitwiseNot:
      return kNoElementCode;
  }
  return kNoElementCode;
}

ElementCode code_of(BinaryKind kind, DType x) {
  const bool logical = x == DType::kBool;
  switch (kind) {
    case BinaryKind::kBitwiseAnd:
      return logical ? kElementLogicalAnd : kNoElementCode;
    case BinaryKind::kBitwiseOr:
      return logical ? kElementLogicalOr : kNoElementCode;
    case BinaryKind::kBitwiseXor:
      return logical ? kElementLogicalXor : kNoElementCode;
    case BinaryKind::kShiftLeft:
    case BinaryKind::kShiftRight:
      return kNoElementCode;
#define MC_CASE(name, expression) \
  case BinaryKind::k##name:       \
    return logical && !is_predicate(kind) ? kNoElementCode : kElement##name;
      MC_BINARY_FUNCTIONS(MC_CASE)
#undef MC_CASE
  }
  return kNoElementCode;
}

}  // namespace

ElementCode element_code(const Operation& operation, DType x) {
  if (!is_floating(x) && x != DType::kBool) return kNoElementCode;
  if (const auto* o = std::get_if<op::Unary>(&operation)) return code_of(o->kind, x);
  if (const auto* o = std::get_if<op::Binary>(&operation)) return code_of(o->kind, x);
  if (std::holds_alternative<op::Select>(operation)) return kElementSelect;
  if (std::holds_alternative<op::SwiGlu>(operation) && is_floating(x)) {
    return is_half(x) ? kElementSwiGlu16 : kElementSwiGlu;
  }
  return kNoElementCode;
}

std::string_view expression_of(ElementCode code) {
  switch (code) {
#define MC_CASE(name, expression) \
  case kElement##name:            \
    return #expression;
    MC_UNARY_FUNCTIONS(MC_CASE)
    MC_BINARY_FUNCTIONS(MC_CASE)
    MC_UNARY_FUNCTIONS_OF_16_BITS(MC_CASE)
    MC_GATED_FUNCTIONS(MC_CASE)
    MC_ROUNDING_FUNCTIONS(MC_CASE)
    MC_TERNARY_FUNCTIONS(MC_CASE)
#undef MC_CASE
    default:
      return {};
  }
}

}  // namespace metal_candle::backend::gpu
