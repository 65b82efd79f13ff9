// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Shape rules of creation and of what works element by element.
#include "metal_candle/graph/shape_rules/rules.h"

namespace metal_candle::shape_rules {
namespace {

void check_unary(UnaryKind kind, DType dtype, const Context& c) {
  if (kind <= UnaryKind::kSquare) {
    if (dtype == DType::kBool) [[unlikely]]
      c.dtype_error("takes numeric dtypes, not bool");
  } else if (kind <= UnaryKind::kIsFinite) {
    if (!is_floating(dtype)) [[unlikely]]
      c.dtype_error("takes floating dtypes");
  } else if (kind == UnaryKind::kBitwiseNot) {
    if (is_floating(dtype)) [[unlikely]]
      c.dtype_error("takes integers and bool");
  }
}

void check_binary(BinaryKind kind, DType dtype, const Context& c) {
  switch (kind) {
    case BinaryKind::kAdd:
    case BinaryKind::kSubtract:
    case BinaryKind::kMultiply:
    case BinaryKind::kFloorDivide:
    case BinaryKind::kRemainder:
    case BinaryKind::kPower:
    case BinaryKind::kMaximum:
    case BinaryKind::kMinimum:
      if (dtype == DType::kBool) [[unlikely]]
        c.dtype_error("takes numeric dtypes, not bool");
      return;
    case BinaryKind::kDivide:
    case BinaryKind::kAtan2:
    case BinaryKind::kLogAddExp:
    case BinaryKind::kHypot:
    case BinaryKind::kCopysign:
      if (!is_floating(dtype)) [[unlikely]]
        c.dtype_error("takes floating dtypes");
      return;
    case BinaryKind::kBitwiseAnd:
    case BinaryKind::kBitwiseOr:
    case BinaryKind::kBitwiseXor:
      if (is_floating(dtype)) [[unlikely]]
        c.dtype_error("takes integers and bool");
      return;
    case BinaryKind::kShiftLeft:
    case BinaryKind::kShiftRight:
      if (!is_integer(dtype)) [[unlikely]]
        c.dtype_error("takes integers");
      return;
    case BinaryKind::kEqual:
    case BinaryKind::kNotEqual:
    case BinaryKind::kLess:
    case BinaryKind::kLessEqual:
    case BinaryKind::kGreater:
    case BinaryKind::kGreaterEqual:
    case BinaryKind::kLogicalAnd:
    case BinaryKind::kLogicalOr:
    case BinaryKind::kLogicalXor:
      return;
  }
}

// The dtype an instruction gives, by the rules of the operation it names.
DType instruction_dtype(const ElementwiseProgram& program,
                        const ElementwiseInstruction& instruction, std::size_t registers,
                        const std::vector<DType>& dtypes, const Context& c) {
  std::array<TensorSpec, 3> scalars;
  std::array<const TensorSpec*, 3> operands{};
  const std::size_t count = instruction.arguments.size();
  if (count > operands.size()) c.dtype_error("an instruction of the program has too many operands");
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t argument = instruction.arguments[i];
    if (argument < 0 || static_cast<std::size_t>(argument) >= registers) {
      c.dtype_error("an instruction of the program reads a register that is not there yet");
    }
    const auto number = static_cast<std::size_t>(argument);
    scalars[i].dtype = number < program.inputs.size() ? program.inputs[number]
                                                      : dtypes[number - program.inputs.size()];
    operands[i] = &scalars[i];
  }
  const TensorSpec requested{Shape{}, instruction.dtype};
  return infer_output(instruction.operation, {operands.data(), count}, requested).dtype;
}

bool may_be_instruction(const Operation& operation) {
  return is_elementwise(operation) && !std::holds_alternative<op::SwiGlu>(operation) &&
         !std::holds_alternative<op::Elementwise>(operation);
}

}  // namespace

TensorSpec infer(const op::Full&, const Context& c) {
  c.require_count(0);
  return {c.requested_shape(), c.requested().dtype};
}

TensorSpec infer(const op::Arange&, const Context& c) {
  c.require_count(0);
  if (c.requested_shape().rank() != 1) c.requested_error("gives one dimension");
  if (c.requested().dtype == DType::kBool) c.dtype_error("gives numeric dtypes, not bool");
  return c.requested();
}

TensorSpec infer(const op::RandomBits&, const Context& c) {
  c.require_count(1);
  c.require_dtype(0, DType::kU32);
  c.require_shape(0, {2});
  return {c.requested_shape(), DType::kU32};
}

TensorSpec infer(const op::Unary& o, const Context& c) {
  c.require_count(1);
  check_unary(o.kind, c.dtype(0), c);
  return {c.shape(0), is_predicate(o.kind) ? DType::kBool : c.dtype(0)};
}

TensorSpec infer(const op::Binary& o, const Context& c) {
  c.require_count(2);
  c.require_one_dtype();
  check_binary(o.kind, c.dtype(0), c);
  return {broadcast(c, c.shape(0), c.shape(1)), is_predicate(o.kind) ? DType::kBool : c.dtype(0)};
}

TensorSpec infer(const op::Select&, const Context& c) {
  c.require_count(3);
  c.require_dtype(0, DType::kBool);
  if (c.dtype(1) != c.dtype(2)) [[unlikely]]
    c.dtype_error("operands differ in dtype");
  return {broadcast(c, c.shape(0), broadcast(c, c.shape(1), c.shape(2))), c.dtype(1)};
}

TensorSpec infer(const op::Cast&, const Context& c) {
  c.require_count(1);
  return {c.shape(0), c.requested().dtype};
}

TensorSpec infer(const op::Elementwise& o, const Context& c) {
  const ElementwiseProgram& program = *o.program;
  c.require_count(program.inputs.size());
  if (program.instructions.empty()) c.dtype_error("the program has no instructions");
  Shape shape;
  for (std::size_t i = 0; i < c.count(); ++i) {
    c.require_dtype(i, program.inputs[i]);
    shape = broadcast(c, shape, c.shape(i));
  }
  std::vector<DType> dtypes;
  dtypes.reserve(program.instructions.size());
  for (const ElementwiseInstruction& instruction : program.instructions) {
    if (!may_be_instruction(instruction.operation)) {
      c.dtype_error("the program has an instruction that is not elementwise");
    }
    const std::size_t registers = program.inputs.size() + dtypes.size();
    if (instruction_dtype(program, instruction, registers, dtypes, c) != instruction.dtype) {
      c.dtype_error("an instruction of the program gives another dtype than it says");
    }
    dtypes.push_back(instruction.dtype);
  }
  return {shape, dtypes.back()};
}

}  // namespace metal_candle::shape_rules
