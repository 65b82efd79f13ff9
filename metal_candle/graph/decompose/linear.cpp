// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Linear layers, LoRA and rotary embeddings in primitives. Products of f16 and bf16 matrices are
// rounded once each, as matmul() does; what follows them is f32.
#include "metal_candle/graph/decompose/builder.h"

namespace metal_candle::decompositions {
namespace {

NodeId scaled(Builder& b, NodeId x, float scale) {
  return scale == 1 ? x : b.times(x, b.real(static_cast<double>(scale)));
}

// scale * (x @ a) @ b, in f32, with a and b at inputs i and i + 1.
NodeId low_rank(Builder& b, std::size_t i, float scale) {
  const NodeId product = b.matmul(b.matmul(b.input(0), b.input(i)), b.input(i + 1));
  return scaled(b, b.wide(product), scale);
}

UnaryKind unary_kind(op::Activation activation) {
  switch (activation) {
    case op::Activation::kGelu:
      return UnaryKind::kGelu;
    case op::Activation::kGeluTanh:
      return UnaryKind::kGeluTanh;
    case op::Activation::kSilu:
      return UnaryKind::kSilu;
    case op::Activation::kNone:
    case op::Activation::kRelu:
      break;
  }
  return UnaryKind::kRelu;
}

// f32 angles that broadcast against [..., length, dims / 2].
NodeId rope_angles(const op::Rope& o, Builder& b) {
  const Shape shape = b.shape(b.input(0));
  const std::int64_t length = shape[shape.rank() - 2];
  NodeId offset = b.input(1);
  if (!b.shape(offset).empty()) {
    // [batch, 1, ..., 1, length]: one offset for each element of the first axis.
    Shape apart(shape.size() - 1, 1);
    apart[0] = shape[0];
    offset = b.reshape(offset, apart);
  }
  const NodeId position = b.wide(b.plus(offset, b.iota(length, DType::kI32)));
  return b.times(b.column(scaled(b, position, o.scale)), b.input(2));
}

}  // namespace

Outputs expand(const op::Lora& o, Builder& b) {
  return {b.cast(low_rank(b, 1, o.scale), b.dtype(b.input(0)))};
}

Outputs expand(const op::LoraLinear& o, Builder& b) {
  NodeId y = b.wide(b.matmul(b.input(0), b.input(1)));
  if (o.has_bias) y = b.plus(y, b.wide(b.input(4)));
  Outputs outputs = {b.cast(b.plus(y, low_rank(b, 2, o.scale)), b.dtype(b.input(0)))};
  if (o.keeps_low) {
    const NodeId low = scaled(b, b.wide(b.matmul(b.input(0), b.input(2))), o.scale);
    outputs.push_back(b.cast(low, b.dtype(b.input(0))));
  }
  return outputs;
}

Outputs expand(const op::Linear& o, Builder& b) {
  NodeId y = scaled(b, b.wide(b.matmul(b.input(0), b.input(1))), o.scale);
  if (o.has_bias) y = b.plus(y, b.wide(b.input(2)));
  if (o.activation != op::Activation::kNone) y = activate(b, unary_kind(o.activation), y);
  if (o.has_residual) y = b.plus(y, b.wide(b.input(b.count() - 1)));
  return {b.cast(y, b.dtype(b.input(0)))};
}

// Into the composites that it was made of, for which a backend may have kernels.
Outputs expand(const op::ProductSum& o, Builder& b) {
  const op::Linear added{op::Activation::kNone, false, true, 1};
  NodeId sum = o.has_residual ? b.add(added, {b.input(0), b.input(1), b.input(b.count() - 1)})
                              : b.matmul(b.input(0), b.input(1));
  for (int i = 1; i < o.count; ++i) {
    const auto first = 2 * static_cast<std::size_t>(i);
    sum = b.add(added, {b.input(first), b.input(first + 1), sum});
  }
  return {sum};
}

Outputs expand(const op::NormLinear& o, Builder& b) {
  const NodeId normed = b.add(op::RmsNorm{o.eps}, {b.input(0), b.input(1)});
  if (o.gated) {
    const NodeId gate = b.matmul(normed, b.input(2));
    return {b.add(op::SwiGlu{}, {gate, b.matmul(normed, b.input(3))})};
  }
  std::vector<NodeId> operands{normed};
  for (std::size_t i = 2; i < b.count(); ++i) operands.push_back(b.input(i));
  if (o.linear == op::Linear{op::Activation::kNone, false, false, 1}) {
    return {b.add(op::Matmul{}, operands)};
  }
  return {b.add(o.linear, operands)};
}

Outputs expand(const op::Rope& o, Builder& b) {
  const NodeId x = b.wide(b.input(0));
  const Shape shape = b.shape(x);
  const std::int64_t half = o.dims / 2;
  const std::int64_t step = o.interleaved ? 2 : 1;
  const NodeId angles = rope_angles(o, b);
  const NodeId cos = b.unary(UnaryKind::kCos, angles);
  NodeId sin = b.unary(UnaryKind::kSin, angles);
  if (o.inverse) sin = b.unary(UnaryKind::kNegative, sin);
  const NodeId first = b.slice_last(x, 0, half, step);
  const NodeId second = b.slice_last(x, o.interleaved ? 1 : half, half, step);
  std::vector<NodeId> parts = {b.minus(b.times(first, cos), b.times(second, sin)),
                               b.plus(b.times(first, sin), b.times(second, cos))};
  if (o.interleaved) {
    // Flattened rows first, so that the axis of pairs never exceeds the rank limit.
    Shape rotated = shape;
    rotated.back() = o.dims;
    const Shape pairs{num_elements(b.shape(parts[0])), 1};
    for (NodeId& part : parts) part = b.reshape(part, pairs);
    parts = {b.reshape(b.concatenate_last(parts), rotated)};
  }
  if (o.dims < shape.back()) parts.push_back(b.slice_last(x, o.dims, shape.back() - o.dims));
  const NodeId y = parts.size() == 1 ? parts[0] : b.concatenate_last(parts);
  return {b.cast(y, b.dtype(b.input(0)))};
}

}  // namespace metal_candle::decompositions
