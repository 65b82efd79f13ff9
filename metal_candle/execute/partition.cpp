// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See partition.h.
#include "metal_candle/execute/partition.h"

#include <numeric>
#include <utility>

#include "metal_candle/execute/cost.h"

namespace metal_candle {
namespace {

class DisjointSets {
 public:
  explicit DisjointSets(std::size_t count) : parent_(count) {
    std::iota(parent_.begin(), parent_.end(), 0);
  }
  NodeId find(NodeId x) {
    while (parent_[index(x)] != x) x = parent_[index(x)] = parent_[index(parent_[index(x)])];
    return x;
  }
  void join(NodeId a, NodeId b) { parent_[index(find(a))] = find(b); }

 private:
  static std::size_t index(NodeId id) { return static_cast<std::size_t>(id); }
  std::vector<NodeId> parent_;
};

double work_of(const ComputationGraph& graph, NodeId id) {
  const GraphNode& node = graph.node(id);
  if (is_alias(node.operation) || std::holds_alternative<op::Pick>(node.operation)) return 0;
  std::vector<TensorLayout> inputs;
  for (const NodeId input : node.inputs)
    inputs.push_back(TensorLayout::contiguous(graph.node(input).spec));
  const TensorLayout output[] = {TensorLayout::contiguous(node.spec)};
  const backend::StepLabel label = make_label(Device::cpu(), node.operation, inputs, output);
  return label.flops + label.bytes;
}

GraphPart whole(ComputationGraph graph) {
  GraphPart part;
  part.graph = std::move(graph);
  part.inputs.resize(part.graph.inputs().size());
  part.outputs.resize(part.graph.outputs().size());
  std::iota(part.inputs.begin(), part.inputs.end(), 0);
  std::iota(part.outputs.begin(), part.outputs.end(), 0);
  return part;
}

}  // namespace

std::vector<GraphPart> partition(ComputationGraph graph) {
  std::vector<GraphPart> parts;
  if (graph.outputs().size() < 2) {
    parts.push_back(whole(std::move(graph)));
    return parts;
  }
  const auto count = static_cast<std::size_t>(graph.size());
  DisjointSets sets(count);
  for (NodeId id = 0; id < graph.size(); ++id) {
    for (const NodeId input : graph.node(id).inputs) {
      if (!graph.node(input).is_input()) sets.join(id, input);
    }
  }
  std::vector<double> work(count, 0);
  int components = 0;
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (graph.node(id).is_input()) continue;
    const auto root = static_cast<std::size_t>(sets.find(id));
    const double before = work[root];
    work[root] += work_of(graph, id);
    if (before < kMinPartWork && work[root] >= kMinPartWork) ++components;
  }
  if (components < 2) {
    parts.push_back(whole(std::move(graph)));
    return parts;
  }
  // Part 0 gathers what is small, and outputs that are plain inputs.
  std::vector<std::int32_t> part_of_root(count, -1);
  parts.emplace_back();
  std::vector<NodeId> copied(count, kNoNode);
  const auto part_of = [&](NodeId id) -> std::int32_t {
    if (graph.node(id).is_input()) return 0;
    const auto root = static_cast<std::size_t>(sets.find(id));
    if (work[root] < kMinPartWork) return 0;
    if (part_of_root[root] < 0) {
      part_of_root[root] = static_cast<std::int32_t>(parts.size());
      parts.emplace_back();
    }
    return part_of_root[root];
  };
  std::vector<std::vector<NodeId>> input_copies;  // By part, by input index.
  const auto copy_input = [&](std::int32_t part, NodeId id) {
    input_copies.resize(std::max(input_copies.size(), static_cast<std::size_t>(part) + 1));
    std::vector<NodeId>& copies = input_copies[static_cast<std::size_t>(part)];
    copies.resize(graph.inputs().size(), kNoNode);
    const std::int32_t index = graph.node(id).input_index;
    NodeId& copy = copies[static_cast<std::size_t>(index)];
    if (copy == kNoNode) {
      GraphPart& target = parts[static_cast<std::size_t>(part)];
      copy = target.graph.add_input(graph.input_layouts()[static_cast<std::size_t>(index)]);
      target.inputs.push_back(index);
    }
    return copy;
  };
  std::vector<NodeId> edges;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const GraphNode& node = graph.node(id);
    if (node.is_input()) continue;
    const std::int32_t part = part_of(id);
    edges.clear();
    for (const NodeId input : node.inputs) {
      edges.push_back(graph.node(input).is_input() ? copy_input(part, input)
                                                   : copied[static_cast<std::size_t>(input)]);
    }
    copied[static_cast<std::size_t>(id)] =
        parts[static_cast<std::size_t>(part)].graph.add(node.operation, edges, node.spec);
  }
  for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
    const NodeId id = graph.outputs()[i];
    const std::int32_t part = part_of(id);
    GraphPart& target = parts[static_cast<std::size_t>(part)];
    target.graph.add_output(graph.node(id).is_input() ? copy_input(part, id)
                                                      : copied[static_cast<std::size_t>(id)]);
    target.outputs.push_back(static_cast<std::int32_t>(i));
  }
  if (parts.front().outputs.empty()) parts.erase(parts.begin());
  for (GraphPart& part : parts) part.graph.compact();
  return parts;
}

}  // namespace metal_candle
