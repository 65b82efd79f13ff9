// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise operations of one shape that become one program, for the passes that make programs.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "metal_candle/graph/computation_graph.h"

namespace metal_candle::passes {

/// How many instructions an operation is worth.
[[nodiscard]] std::size_t instructions_of(const Operation& operation);

/// Nodes that will be one program. A group grows from its end towards its inputs. A producer joins
/// when all its users are in the group already (so nothing is computed twice, and no cycle can
/// arise: only one value leaves the group); scalar constants become immediates; a cast joins each
/// group that reads it, because reading the narrower or wider source costs no more than reading the
/// result. The graph must not change while a group is in use.
class ElementwiseGroup {
 public:
  /// The group of which the node, which is elementwise, is the last.
  static ElementwiseGroup that_ends_in(const ComputationGraph& graph, NodeId last);
  /// The group whose last node is input 0 of `reader`, which is not elementwise and has no other;
  /// empty until it grows.
  static ElementwiseGroup that_is_read_by(const ComputationGraph& graph, NodeId reader);

  /// Takes in all producers that may join.
  void grow();

  [[nodiscard]] const std::vector<NodeId>& operands() const { return operands_; }
  [[nodiscard]] std::size_t instructions() const { return instructions_ + constants_.size(); }
  /// Whether there is something to compute, of operands that alone give the shape.
  [[nodiscard]] bool is_program() const;
  /// The members and constants as a program, inputs before their users.
  [[nodiscard]] std::shared_ptr<const ElementwiseProgram> program() const;

 private:
  ElementwiseGroup(const ComputationGraph& graph, const Shape& shape)
      : graph_(graph), shape_(shape) {}
  bool join_one_of_ours();
  bool join_shared_cast();
  template <typename Condition>
  bool join_first(const Condition& condition, bool ours);
  [[nodiscard]] bool fits(NodeId id) const;
  [[nodiscard]] bool only_we_use(const GraphNode& node) const;
  void join(NodeId id, bool ours);

  const ComputationGraph& graph_;
  const Shape shape_;
  std::vector<NodeId> members_;  // The last of the program first.
  // What is not needed outside: the last, or who reads it, and members but for casts.
  std::vector<NodeId> ours_;
  std::vector<NodeId> operands_, constants_;
  std::size_t instructions_ = 0;
};

}  // namespace metal_candle::passes
