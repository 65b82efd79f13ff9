// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The walk over the graph and the choice of loop for each operation.
#include "tests/support/reference_interpreter.h"

#include <fmt/format.h>

#include <cmath>

#include "metal_candle/graph/trace.h"
#include "tests/support/reference_kernels.h"

namespace metal_candle::testing {
namespace {

using reference::Inputs;
using reference::Outputs;

template <typename... Ts>
Outputs outputs(Ts... tensors) {
  Outputs all;
  (all.push_back(std::move(tensors)), ...);
  return all;
}

/// One overload an operation.
struct Evaluate {
  Inputs in;
  const TensorSpec& spec;
  Rounding rounding;
  const HostTensor& x() const { return *in[0]; }

  Outputs operator()(const op::Full& o) const { return outputs(reference::full(o, spec)); }
  Outputs operator()(const op::Arange& o) const { return outputs(reference::arange(o, spec)); }
  Outputs operator()(const op::RandomBits&) const {
    return outputs(reference::random_bits(x(), spec));
  }
  Outputs operator()(const op::Unary& o) const {
    return outputs(reference::elementwise(o, in, spec));
  }
  Outputs operator()(const op::Binary& o) const {
    return outputs(reference::elementwise(o, in, spec));
  }
  Outputs operator()(const op::Select& o) const {
    return outputs(reference::elementwise(o, in, spec));
  }
  Outputs operator()(const op::Cast& o) const {
    return outputs(reference::elementwise(o, in, spec));
  }
  Outputs operator()(const op::Elementwise& o) const {
    return outputs(reference::fused_elementwise(*o.program, in, spec, rounding));
  }
  Outputs operator()(const op::ElementwiseReduce& o) const {
    TensorSpec elements{{}, o.elementwise.program->instructions.back().dtype};
    for (const HostTensor* operand : in) {
      elements.shape = broadcast_shapes("reference", elements.shape, operand->shape());
    }
    const HostTensor x =
        reference::fused_elementwise(*o.elementwise.program, in, elements, rounding);
    return outputs(reference::reduce(o.reduce, x, spec));
  }

  Outputs operator()(const op::Reduce& o) const { return outputs(reference::reduce(o, x(), spec)); }
  Outputs operator()(const op::ArgReduce& o) const {
    return outputs(reference::arg_reduce(o, x(), spec));
  }
  Outputs operator()(const op::Cumulative& o) const {
    return outputs(reference::cumulative(o, x(), spec));
  }
  Outputs operator()(const op::Sort& o) const {
    const TensorSpec order{spec.shape, DType::kI32};
    const HostTensor permutation = reference::argsort(o.axis, o.descending, x(), order);
    return outputs(reference::take_along_axis(o.axis, x(), permutation, spec));
  }
  Outputs operator()(const op::ArgSort& o) const {
    return outputs(reference::argsort(o.axis, o.descending, x(), spec));
  }
  Outputs operator()(const op::ArgTopK& o) const {
    return outputs(reference::argsort(o.axis, /*descending=*/true, x(), spec));
  }
  Outputs operator()(const op::Matmul&) const {
    return outputs(reference::matmul(*in[0], *in[1], spec.dtype));
  }

  Outputs operator()(const op::Reshape&) const { return outputs(reference::reshape(x(), spec)); }
  Outputs operator()(const op::Transpose& o) const {
    return outputs(reference::transpose(o, x(), spec));
  }
  Outputs operator()(const op::Slice& o) const {
    return outputs(reference::slice(o.start, o.step, x(), spec));
  }
  Outputs operator()(const op::Broadcast&) const {
    return outputs(reference::broadcast(x(), spec));
  }
  Outputs operator()(const op::Concatenate& o) const {
    return outputs(reference::concatenate(o.axis, in, spec));
  }
  Outputs operator()(const op::Pad& o) const { return outputs(reference::pad(o, x(), spec)); }
  Outputs operator()(const op::Barrier&) const { return outputs(x()); }
  Outputs operator()(const op::StopGradient&) const { return outputs(x()); }
  Outputs operator()(const op::Identity&) const { return outputs(x()); }
  Outputs operator()(const op::Pick&) const {
    throw Error("pick: has no meaning apart from a graph");
  }
  Outputs operator()(const op::CustomGradient& o) const {
    Outputs all;
    for (int i = 0; i < o.num_outputs; ++i) all.push_back(*in[static_cast<std::size_t>(i)]);
    return all;
  }

  Outputs operator()(const op::Take& o) const {
    return outputs(reference::take(o.axis, x(), *in[1], spec));
  }
  Outputs operator()(const op::TakeAlongAxis& o) const {
    return outputs(reference::take_along_axis(o.axis, x(), *in[1], spec));
  }
  Outputs operator()(const op::ScatterAdd& o) const {
    return outputs(reference::scatter_add(o.axis, x(), *in[1], *in[2]));
  }
  Outputs operator()(const op::ScatterAddAlongAxis& o) const {
    return outputs(reference::scatter_add_along_axis(o.axis, x(), *in[1], *in[2]));
  }
  Outputs operator()(const op::SliceUpdate& o) const {
    return outputs(reference::slice_update(o.start, o.step, x(), *in[1]));
  }
  Outputs operator()(const op::DynamicSlice& o) const {
    const Dims start = reference::dynamic_start(o.axes, *in[1], x().shape(), spec.shape);
    return outputs(reference::slice(start, Dims(start.size(), 1), x(), spec));
  }
  Outputs operator()(const op::DynamicSliceUpdate& o) const {
    const Dims start = reference::dynamic_start(o.axes, *in[2], x().shape(), in[1]->shape());
    return outputs(reference::slice_update(start, Dims(start.size(), 1), x(), *in[1]));
  }

  Outputs operator()(const op::Softmax& o) const {
    return outputs(reference::softmax(o.axis, x(), /*logarithm=*/false));
  }
  Outputs operator()(const op::LogSoftmax& o) const {
    return outputs(reference::softmax(o.axis, x(), /*logarithm=*/true));
  }
  Outputs operator()(const op::LogSumExp& o) const {
    return outputs(reference::log_sum_exp(o.axis, x(), spec));
  }
  Outputs operator()(const op::TopPThreshold& o) const {
    return outputs(reference::top_p_threshold(static_cast<double>(o.p), x(), spec));
  }
  Outputs operator()(const op::Draw&) const { return outputs(reference::draw(x(), *in[1], spec)); }
  Outputs operator()(const op::SoftmaxBackward& o) const {
    return outputs(reference::softmax_backward(o.axis, *in[0], *in[1]));
  }
  Outputs operator()(const op::RmsNorm& o) const {
    return outputs(reference::rms_norm(static_cast<double>(o.eps), in));
  }
  Outputs operator()(const op::RmsNormBackward& o) const {
    return reference::rms_norm_backward(static_cast<double>(o.eps), in);
  }
  Outputs operator()(const op::LayerNorm& o) const {
    return outputs(reference::layer_norm(static_cast<double>(o.eps), in));
  }
  Outputs operator()(const op::LayerNormBackward& o) const {
    return reference::layer_norm_backward(static_cast<double>(o.eps), in);
  }
  Outputs operator()(const op::SwiGlu&) const { return outputs(reference::swiglu(in, spec)); }
  Outputs operator()(const op::SwiGluBackward& o) const {
    if (!o.of_product) return reference::swiglu_backward(in);
    const HostTensor dy = reference::matmul(*in[2], *in[3], spec.dtype);
    const HostTensor* const operands[] = {in[0], in[1], &dy};
    return reference::swiglu_backward(operands);
  }
  Outputs operator()(const op::Rope& o) const { return outputs(reference::rope(o, in)); }
  Outputs operator()(const op::Lora& o) const {
    return outputs(reference::lora(static_cast<double>(o.scale), *in[0], *in[1], *in[2]));
  }
  Outputs operator()(const op::LoraLinear& o) const { return reference::lora_linear(o, in); }
  Outputs operator()(const op::Linear& o) const { return outputs(reference::linear(o, in, spec)); }
  Outputs operator()(const op::ProductSum& o) const {
    return outputs(reference::product_sum(o, in, spec));
  }
  Outputs operator()(const op::NormLinear& o) const {
    return outputs(reference::norm_linear(o, in, spec));
  }
  Outputs operator()(const op::Attention& o) const { return reference::attention(o, in); }
  Outputs operator()(const op::AttentionBackward& o) const {
    return reference::attention_backward(o, in);
  }
  Outputs operator()(const op::CachedAttention& o) const {
    return reference::cached_attention(o, in);
  }
  Outputs operator()(const op::CrossEntropy& o) const {
    return reference::cross_entropy(o.ignore_index, *in[0], *in[1]);
  }
  Outputs operator()(const op::CrossEntropyBackward& o) const {
    return outputs(
        reference::cross_entropy_backward(o.ignore_index, *in[0], *in[1], *in[2], *in[3]));
  }
  Outputs operator()(const op::LinearCrossEntropy& o) const {
    return reference::linear_cross_entropy(o.ignore_index, in);
  }
  Outputs operator()(const op::LinearCrossEntropyBackward& o) const {
    return reference::linear_cross_entropy_backward(o.ignore_index, in);
  }
};

/// Nodes that the outputs need, each after its inputs.
std::vector<NodeId> evaluation_order(const ComputationGraph& graph) {
  std::vector<NodeId> order;
  std::vector<char> entered(static_cast<std::size_t>(graph.size()), 0);
  std::vector<char> done(entered);
  std::vector<NodeId> stack(graph.outputs().begin(), graph.outputs().end());
  while (!stack.empty()) {
    const NodeId id = stack.back();
    const auto at = static_cast<std::size_t>(id);
    if (done[at] || entered[at]) {
      stack.pop_back();
      if (!done[at]) order.push_back(id);
      done[at] = 1;
      continue;
    }
    entered[at] = 1;
    for (const NodeId input : graph.node(id).inputs) {
      if (!entered[static_cast<std::size_t>(input)]) stack.push_back(input);
    }
  }
  return order;
}

}  // namespace

std::vector<HostTensor> interpret_operation(const Operation& operation,
                                            std::span<const HostTensor* const> inputs,
                                            const TensorSpec& spec, Rounding rounding) {
  Outputs results = std::visit(Evaluate{inputs, spec, rounding}, operation);
  if (results[0].spec != spec) {
    throw Error(fmt::format("reference of {}: {} {}, but the graph says {} {}",
                            to_string(operation), name(results[0].dtype()),
                            to_string(results[0].shape()), name(spec.dtype),
                            to_string(spec.shape)));
  }
  if (rounding == Rounding::kEveryOperation) {
    for (HostTensor& result : results) {
      for (double& value : result.real) value = round_to(value, result.dtype());
    }
  }
  return results;
}

std::vector<HostTensor> interpret(const ComputationGraph& graph, std::span<const HostTensor> inputs,
                                  Rounding rounding) {
  if (inputs.size() != graph.inputs().size()) {
    throw Error(fmt::format("interpret: {} inputs for a graph with {}", inputs.size(),
                            graph.inputs().size()));
  }
  std::vector<Outputs> values(static_cast<std::size_t>(graph.size()));
  const auto value_of = [&](NodeId id) -> Outputs& { return values[static_cast<std::size_t>(id)]; };
  for (const NodeId id : evaluation_order(graph)) {
    const GraphNode& node = graph.node(id);
    if (node.is_input()) {
      const HostTensor& input = inputs[static_cast<std::size_t>(node.input_index)];
      if (input.spec != node.spec) {
        throw Error(fmt::format("interpret: input {} is {} {}, but the graph says {} {}",
                                node.input_index, name(input.dtype()), to_string(input.shape()),
                                name(node.spec.dtype), to_string(node.spec.shape)));
      }
      value_of(id).push_back(input);
    } else if (const auto* pick = graph.get_if<op::Pick>(id)) {
      value_of(id).push_back(value_of(node.inputs[0]).at(static_cast<std::size_t>(pick->index)));
    } else {
      std::vector<const HostTensor*> operands;
      for (const NodeId input : node.inputs) operands.push_back(&value_of(input).at(0));
      value_of(id) = interpret_operation(node.operation, operands, node.spec, rounding);
    }
  }
  std::vector<HostTensor> results;
  for (const NodeId id : graph.outputs()) results.push_back(value_of(id).at(0));
  return results;
}

TracedValues trace_values(std::span<const Tensor> outputs) {
  std::vector<Node*> nodes;
  for (const Tensor& output : outputs) nodes.push_back(output.node().get());
  const Trace trace(nodes);
  TracedValues traced;
  traced.graph = trace.to_graph();
  for (const Node* leaf : trace.leaves()) {
    const Tensor handle{NodePtr(const_cast<Node*>(leaf))};
    traced.inputs.push_back(read_evaluated(handle));
    traced.leaves.push_back(leaf);
  }
  return traced;
}

std::vector<HostTensor> interpret(std::span<const Tensor> outputs, Rounding rounding) {
  const TracedValues traced = trace_values(outputs);
  return interpret(traced.graph, traced.inputs, rounding);
}

HostTensor interpret(const Tensor& output, Rounding rounding) {
  return std::move(interpret(std::span(&output, 1), rounding)[0]);
}

}  // namespace metal_candle::testing
