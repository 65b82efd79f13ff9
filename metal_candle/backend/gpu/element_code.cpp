// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See element_code.h.
#include "metal_candle/backend/gpu/element_code.h"

#include <optional>
#include <utility>

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

std::vector<Contraction> contractions(const ElementwiseProgram& program) {
  const auto inputs = static_cast<std::int32_t>(program.inputs.size());
  const auto& instructions = program.instructions;
  std::vector<int> uses(program.inputs.size() + instructions.size(), 0);
  for (const ElementwiseInstruction& instruction : instructions) {
    for (const std::int32_t r : instruction.arguments) ++uses[static_cast<std::size_t>(r)];
  }
  std::vector<Contraction> found(instructions.size());
  // The factors of a product that is read once.
  const auto factors = [&](std::int32_t r) -> std::optional<std::pair<std::int32_t, std::int32_t>> {
    if (r < inputs || uses[static_cast<std::size_t>(r)] != 1) return {};
    const ElementwiseInstruction& product = instructions[static_cast<std::size_t>(r - inputs)];
    const auto* binary = std::get_if<op::Binary>(&product.operation);
    const auto* unary = std::get_if<op::Unary>(&product.operation);
    if (binary != nullptr && binary->kind == BinaryKind::kMultiply) {
      return std::pair(product.arguments[0], product.arguments[1]);
    }
    if (unary != nullptr && unary->kind == UnaryKind::kSquare) {
      return std::pair(product.arguments[0], product.arguments[0]);
    }
    return {};
  };
  for (std::size_t i = 0; i < instructions.size(); ++i) {
    const ElementwiseInstruction& sum = instructions[i];
    const auto* binary = std::get_if<op::Binary>(&sum.operation);
    if (binary == nullptr || !is_floating(sum.dtype)) continue;
    const bool adds = binary->kind == BinaryKind::kAdd;
    if (!adds && binary->kind != BinaryKind::kSubtract) continue;
    for (const std::size_t k : {0, 1}) {
      const auto both = factors(sum.arguments[k]);
      if (!both) continue;
      found[i].code = adds     ? kElementMultiplyAdd
                      : k == 0 ? kElementMultiplySubtract
                               : kElementSubtractProduct;
      found[i].from = {both->first, both->second, sum.arguments[1 - k]};
      found[static_cast<std::size_t>(sum.arguments[k] - inputs)].is_swallowed = true;
      break;
    }
  }
  return found;
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
