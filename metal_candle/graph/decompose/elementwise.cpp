// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Activations, gated activations and elementwise programs in primitives.
#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/decompose/builder.h"

namespace metal_candle::decompositions {
namespace {

// 1 / (1 + exp(-x)).
NodeId sigmoid(Builder& b, NodeId x) {
  const NodeId one = b.real(1);
  return b.over(one, b.plus(one, b.exp(b.unary(UnaryKind::kNegative, x))));
}

// 0.5 x (1 + inner).
NodeId half_gate(Builder& b, NodeId x, NodeId inner) {
  return b.times(b.times(b.real(0.5), x), b.plus(b.real(1), inner));
}

NodeId gelu(Builder& b, NodeId x) {
  const NodeId inner = b.over(x, b.real(std::numbers::sqrt2));
  return half_gate(b, x, b.unary(UnaryKind::kErf, inner));
}

NodeId gelu_tanh(Builder& b, NodeId x) {
  const NodeId cube = b.times(b.unary(UnaryKind::kSquare, x), x);
  const NodeId inner = b.plus(x, b.times(b.real(0.044715), cube));
  const NodeId scaled = b.times(b.real(std::sqrt(2 / std::numbers::pi)), inner);
  return half_gate(b, x, b.unary(UnaryKind::kTanh, scaled));
}

}  // namespace

NodeId activate(Builder& b, UnaryKind kind, NodeId x) {
  switch (kind) {
    case UnaryKind::kSigmoid:
      return sigmoid(b, x);
    case UnaryKind::kRelu:
      return b.binary(BinaryKind::kMaximum, x, b.real(0));
    case UnaryKind::kGelu:
      return gelu(b, x);
    case UnaryKind::kGeluTanh:
      return gelu_tanh(b, x);
    case UnaryKind::kSilu:
      return b.times(x, sigmoid(b, x));
    default:
      throw Error(fmt::format("{}: a primitive has no decomposition", name(kind)));
  }
}

Outputs expand(const op::Unary& o, Builder& b) {
  const NodeId x = b.input(0);
  return {b.cast(activate(b, o.kind, b.wide(x)), b.dtype(x))};
}

Outputs expand(const op::SwiGlu&, Builder& b) {
  const NodeId gate = activate(b, UnaryKind::kSilu, b.wide(b.input(0)));
  return {b.cast(b.times(gate, b.wide(b.input(1))), b.dtype(b.input(0)))};
}

Outputs expand(const op::SwiGluBackward& o, Builder& b) {
  if (o.of_product) {  // A backend may have a kernel for what is left.
    const NodeId dy = b.matmul(b.input(2), b.input(3));
    const NodeId both = b.add(op::SwiGluBackward{}, {b.input(0), b.input(1), dy});
    return {b.add(op::Pick{0}, {both}, b.spec(b.input(0))),
            b.add(op::Pick{1}, {both}, b.spec(b.input(1)))};
  }
  const NodeId gate = b.wide(b.input(0));
  const NodeId dy = b.wide(b.input(2));
  const NodeId one = b.real(1);
  // d silu(x) / dx = s (1 + x (1 - s)), with s = sigmoid(x).
  const NodeId s = activate(b, UnaryKind::kSigmoid, gate);
  const NodeId slope = b.times(s, b.plus(b.times(gate, b.minus(one, s)), one));
  const NodeId dgate = b.times(b.times(dy, b.wide(b.input(1))), slope);
  const NodeId dup = b.times(dy, b.times(gate, s));
  return {b.cast(dgate, b.dtype(b.input(0))), b.cast(dup, b.dtype(b.input(1)))};
}

Outputs expand(const op::Elementwise& o, Builder& b) {
  std::vector<NodeId> registers;
  Shape shape;
  for (std::size_t i = 0; i < b.count(); ++i) {
    registers.push_back(b.input(i));
    shape = broadcast_shapes("elementwise", shape, b.shape(b.input(i)));
  }
  std::vector<NodeId> arguments;
  for (const ElementwiseInstruction& instruction : o.program->instructions) {
    arguments.clear();
    for (const std::int32_t argument : instruction.arguments) {
      arguments.push_back(registers[static_cast<std::size_t>(argument)]);
    }
    registers.push_back(b.add(instruction.operation, arguments, {Shape{}, instruction.dtype}));
  }
  // A program need not use every operand, but each has a say in the shape.
  const NodeId result = registers.back();
  if (b.shape(result) == shape) return {result};
  return {b.add(op::Broadcast{}, {result}, {shape, b.dtype(result)})};
}

Outputs expand(const op::ElementwiseReduce& o, Builder& b) {
  const Outputs elements = expand(o.elementwise, b);
  return {b.add(o.reduce, elements)};
}

}  // namespace metal_candle::decompositions
