// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Decompositions are added at the end of the graph, so one walk along the ids sees them too.
#include "metal_candle/optimize/lowering.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/decompose.h"
#include "metal_candle/graph/shape_rules.h"

namespace metal_candle {
namespace {

bool needs_kernel(const GraphNode& node) {
  return !node.dead && !node.is_input() && !is_alias(node.operation) &&
         !std::holds_alternative<op::Reshape>(node.operation) &&
         !std::holds_alternative<op::Pick>(node.operation);
}

[[noreturn]] void throw_unsupported(const GraphNode& node, std::span<const TensorSpec> inputs) {
  std::string operands;
  for (const TensorSpec& input : inputs) {
    operands += fmt::format("{}{} {}", operands.empty() ? "" : ", ", name(input.dtype),
                            to_string(input.shape));
  }
  throw DeviceError(fmt::format("{}: the device has no kernel for ({}) -> {} {}",
                                to_string(node.operation), operands, name(node.spec.dtype),
                                to_string(node.spec.shape)));
}

void decompose_node(ComputationGraph& graph, NodeId id) {
  // Copies, because adding nodes moves the graph's own.
  const Operation operation = graph.node(id).operation;
  const std::vector<NodeId> inputs = graph.node(id).inputs;
  const std::vector<NodeId> outputs = decompose(graph, operation, inputs);
  if (num_outputs(operation) == 1) {
    graph.replace(id, outputs.at(0));
    return;
  }
  const std::vector<NodeId> picks = graph.node(id).users;
  for (const NodeId user : picks) {
    const auto index = static_cast<std::size_t>(graph.get_if<op::Pick>(user)->index);
    graph.replace(user, outputs.at(index));
  }
  for (const NodeId output : outputs) graph.remove_if_unused(output);
}

}  // namespace

int lower_unsupported(ComputationGraph& graph, const SupportsOperation& supports) {
  int decomposed = 0;
  std::vector<TensorSpec> inputs;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const GraphNode& node = graph.node(id);
    if (!needs_kernel(node)) continue;
    inputs.clear();
    for (const NodeId input : node.inputs) inputs.push_back(graph.node(input).spec);
    if (supports(node.operation, inputs)) continue;
    if (!is_composite(node.operation)) throw_unsupported(node, inputs);
    decompose_node(graph, id);
    ++decomposed;
  }
  if (decomposed > 0) graph.compact();
  return decomposed;
}

void optimize_for_backend(ComputationGraph& graph, const GraphOptimizer& optimizer,
                          const SupportsOperation& supports, OptimizationReport* report) {
  optimizer.run(graph, report);
  if (lower_unsupported(graph, supports) == 0) return;
  optimizer.run_after_lowering(graph, report);
  // A backend may have no kernel for elementwise programs either.
  lower_unsupported(graph, supports);
  if (report != nullptr) report->nodes_after = graph.live_size();
}

}  // namespace metal_candle
