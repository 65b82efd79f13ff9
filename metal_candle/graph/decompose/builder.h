// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What decompositions are written with, and the decomposition of each composite, one overload each;
// for use by decompose.cpp alone.
#pragma once

#include <span>
#include <vector>

#include "metal_candle/graph/computation_graph.h"

namespace metal_candle::decompositions {

using Outputs = std::vector<NodeId>;

/// Adds primitives to a graph. Operands broadcast, so constants are 0-d.
class Builder {
 public:
  Builder(ComputationGraph& graph, std::span<const NodeId> inputs)
      : graph_(graph), inputs_(inputs) {}

  [[nodiscard]] NodeId input(std::size_t i) const { return inputs_[i]; }
  [[nodiscard]] std::size_t count() const { return inputs_.size(); }
  // By value: adding a node moves the others.
  [[nodiscard]] TensorSpec spec(NodeId x) const { return graph_.node(x).spec; }
  [[nodiscard]] Shape shape(NodeId x) const { return graph_.node(x).spec.shape; }
  [[nodiscard]] DType dtype(NodeId x) const { return graph_.node(x).spec.dtype; }

  NodeId add(Operation operation, std::initializer_list<NodeId> inputs,
             const TensorSpec& requested = {}) {
    return graph_.add(std::move(operation), inputs, requested);
  }
  NodeId add(Operation operation, std::span<const NodeId> inputs,
             const TensorSpec& requested = {}) {
    return graph_.add(std::move(operation), inputs, requested);
  }

  NodeId real(double value, DType dtype = DType::kF32) { return real({}, value, dtype); }
  NodeId real(const Shape& shape, double value, DType dtype = DType::kF32) {
    return add(op::Full{Scalar::from_real(value)}, {}, {shape, dtype});
  }
  NodeId integer(std::int64_t value, DType dtype) {
    return add(op::Full{Scalar::from_integer(value)}, {}, {Shape{}, dtype});
  }
  /// 0, 1, ... of shape [count].
  NodeId iota(std::int64_t count, DType dtype) {
    return add(op::Arange{Scalar::from_integer(0), Scalar::from_integer(1)}, {},
               {Shape{count}, dtype});
  }

  NodeId unary(UnaryKind kind, NodeId x) { return add(op::Unary{kind}, {x}); }
  NodeId binary(BinaryKind kind, NodeId a, NodeId b) { return add(op::Binary{kind}, {a, b}); }
  NodeId plus(NodeId a, NodeId b) { return binary(BinaryKind::kAdd, a, b); }
  NodeId minus(NodeId a, NodeId b) { return binary(BinaryKind::kSubtract, a, b); }
  NodeId times(NodeId a, NodeId b) { return binary(BinaryKind::kMultiply, a, b); }
  NodeId over(NodeId a, NodeId b) { return binary(BinaryKind::kDivide, a, b); }
  NodeId exp(NodeId x) { return unary(UnaryKind::kExp, x); }
  NodeId where(NodeId condition, NodeId a, NodeId b) {
    return add(op::Select{}, {condition, a, b});
  }

  NodeId cast(NodeId x, DType dtype) {
    return this->dtype(x) == dtype ? x : add(op::Cast{}, {x}, {Shape{}, dtype});
  }
  /// In f32, which all composites compute in.
  NodeId wide(NodeId x) { return cast(x, DType::kF32); }

  NodeId reshape(NodeId x, const Shape& shape) {
    return this->shape(x) == shape ? x : add(op::Reshape{}, {x}, {shape, dtype(x)});
  }
  /// With an axis of length 1 at the end.
  NodeId column(NodeId x) {
    Shape shape = this->shape(x);
    shape.push_back(1);
    return reshape(x, shape);
  }
  /// The last two axes swapped.
  NodeId transpose(NodeId x);
  NodeId matmul(NodeId a, NodeId b) { return add(op::Matmul{}, {a, b}); }
  /// Elements start, start + step, ... of the last axis.
  NodeId slice_last(NodeId x, std::int64_t start, std::int64_t count, std::int64_t step = 1);
  NodeId concatenate_last(std::span<const NodeId> parts);

  NodeId reduce(ReduceKind kind, NodeId x, int axis, bool keepdims = true) {
    return add(op::Reduce{kind, {axis}, keepdims}, {x});
  }
  NodeId sum(NodeId x, int axis) { return reduce(ReduceKind::kSum, x, axis); }
  /// Over the last axis, kept: as metal_candle::mean() writes it.
  NodeId mean_last(NodeId x);
  /// Over all axes but the last, which is left: f32.
  NodeId sum_rows(NodeId x);
  /// The maximum along axis (kept), or 0 where that is not finite: subtracting it never makes a NaN
  /// of infinities, and exp() of what is left does not overflow.
  NodeId finite_max(NodeId x, int axis);

 private:
  ComputationGraph& graph_;
  std::span<const NodeId> inputs_;
};

/// The activation of an f32 x, which may be of kind kSigmoid to kSilu.
NodeId activate(Builder& b, UnaryKind kind, NodeId x);

Outputs expand(const op::Unary&, Builder&);
Outputs expand(const op::Softmax&, Builder&);
Outputs expand(const op::LogSoftmax&, Builder&);
Outputs expand(const op::LogSumExp&, Builder&);
Outputs expand(const op::TopPThreshold&, Builder&);
Outputs expand(const op::Draw&, Builder&);
Outputs expand(const op::SoftmaxBackward&, Builder&);
Outputs expand(const op::RmsNorm&, Builder&);
Outputs expand(const op::RmsNormBackward&, Builder&);
Outputs expand(const op::LayerNorm&, Builder&);
Outputs expand(const op::LayerNormBackward&, Builder&);
Outputs expand(const op::SwiGlu&, Builder&);
Outputs expand(const op::SwiGluBackward&, Builder&);
Outputs expand(const op::Rope&, Builder&);
Outputs expand(const op::Lora&, Builder&);
Outputs expand(const op::LoraLinear&, Builder&);
Outputs expand(const op::Linear&, Builder&);
Outputs expand(const op::ProductSum&, Builder&);
Outputs expand(const op::NormLinear&, Builder&);
Outputs expand(const op::Attention&, Builder&);
Outputs expand(const op::AttentionBackward&, Builder&);
Outputs expand(const op::CachedAttention&, Builder&);
Outputs expand(const op::CrossEntropy&, Builder&);
Outputs expand(const op::CrossEntropyBackward&, Builder&);
Outputs expand(const op::LinearCrossEntropy&, Builder&);
Outputs expand(const op::LinearCrossEntropyBackward&, Builder&);
Outputs expand(const op::Elementwise&, Builder&);
Outputs expand(const op::ElementwiseReduce&, Builder&);

}  // namespace metal_candle::decompositions
