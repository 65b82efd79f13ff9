// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The choice of rule, what rules see, and the rule of composites that have none of their own.
#include "metal_candle/autograd/gradient_rules.h"

#include <fmt/format.h>

#include "metal_candle/autograd/differentiation.h"
#include "metal_candle/core/error.h"
#include "metal_candle/graph/decompose.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/shape_rules.h"

namespace metal_candle::detail {
namespace {

/// The sum over the axes along which something of shape `shape` was broadcast to x's.
Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int missing = x.rank() - shape.rank();
  Axes axes;
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (axis < missing || (shape[axis - missing] == 1 && x.shape()[axis] != 1)) {
      axes.push_back(axis);
    }
  }
  return reshape(sum(x, axes, /*keepdims=*/true), shape);
}

/// The primitives of a composite, as tensors.
std::vector<Tensor> emit_decomposition(const Operation& operation,
                                       const std::vector<Tensor>& inputs) {
  ComputationGraph graph;
  std::vector<NodeId> ids;
  for (const Tensor& input : inputs) {
    ids.push_back(graph.add_input(TensorLayout::contiguous(input.spec())));
  }
  const std::vector<NodeId> outputs = decompose(graph, operation, ids);
  std::vector<Tensor> tensors;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const GraphNode& node = graph.node(id);
    if (node.is_input()) {
      tensors.push_back(inputs[static_cast<std::size_t>(node.input_index)]);
      continue;
    }
    std::vector<const Tensor*> operands;
    for (const NodeId input : node.inputs) {
      operands.push_back(&tensors[static_cast<std::size_t>(input)]);
    }
    tensors.push_back(make_node(node.operation, operands, node.spec, inputs[0].device()));
  }
  std::vector<Tensor> results;
  for (const NodeId id : outputs) results.push_back(tensors[static_cast<std::size_t>(id)]);
  return results;
}

}  // namespace

Tensor VjpContext::y(int k) const {
  if (std::holds_alternative<op::CustomGradient>(operation_)) {
    return make_node(op::Pick{k}, {&node_}, x(static_cast<std::size_t>(k)).spec());
  }
  if (num_outputs(operation_) == 1) return node_;
  std::vector<const TensorSpec*> specs;
  for (const Tensor& input : inputs_) specs.push_back(&input.spec());
  const OutputSpecs outputs = infer_outputs(operation_, specs, node_.spec());
  return make_node(op::Pick{k}, {&node_}, outputs.specs[static_cast<std::size_t>(k)]);
}

void VjpContext::give(std::size_t i, const Tensor& gradient) {
  const Tensor fitting = sum_to(gradient, x(i).shape());
  if (fitting.dtype() != x(i).dtype()) {
    throw Error(fmt::format("gradient of {}: {} for operand {}, which is {}", name(operation_),
                            name(fitting.dtype()), i, name(x(i).dtype())));
  }
  gradients_[i] = fitting;
}

void apply_vjp_rule(const Operation& operation, VjpContext& c) {
  std::visit([&](const auto& o) { vjp_rule(o, c); }, operation);
}

void vjp_of_decomposition(const Operation& operation, VjpContext& c) {
  const Differentiation differentiation(c.inputs(), c.needs_all());
  const std::vector<Tensor> outputs = emit_decomposition(operation, differentiation.arguments());
  const std::vector<Tensor> gradients = differentiation.pull_back(outputs, c.cotangents());
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (c.needs(i)) c.give(i, gradients[i]);
  }
}

}  // namespace metal_candle::detail
