// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See elementwise_group.h.
#include "metal_candle/optimize/passes/elementwise_group.h"

#include <algorithm>
#include <utility>

namespace metal_candle::passes {
namespace {

// A program's registers and operand pointers should stay in registers and in the first-level cache.
constexpr std::size_t kMaxInstructions = 64;
constexpr std::size_t kMaxOperands = 12;

bool is_scalar_constant(const ComputationGraph& graph, NodeId id) {
  return graph.get_if<op::Full>(id) != nullptr && graph.node(id).spec.shape.empty();
}

/// Elementwise, and not a constant of its own.
bool can_join(const ComputationGraph& graph, NodeId id) {
  const GraphNode& node = graph.node(id);
  return !node.is_input() && is_elementwise(node.operation) &&
         !std::holds_alternative<op::Full>(node.operation);
}

bool contains(const std::vector<NodeId>& nodes, NodeId id) {
  return std::find(nodes.begin(), nodes.end(), id) != nodes.end();
}

/// Writes members down as instructions.
class ProgramWriter {
 public:
  ProgramWriter(const ComputationGraph& graph, const std::vector<NodeId>& operands)
      : graph_(graph) {
    for (const NodeId operand : operands) {
      registers_.emplace_back(operand, next_register());
      program_.inputs.push_back(graph.node(operand).spec.dtype);
    }
  }

  /// The register of a node, which is an operand, or written here with all it needs.
  std::int32_t write(NodeId id) {
    for (const auto& [node, number] : registers_) {
      if (node == id) return number;
    }
    const GraphNode& node = graph_.node(id);
    std::vector<std::int32_t> arguments;
    for (const NodeId input : node.inputs) arguments.push_back(write(input));
    const std::int32_t number = write_operation(node, arguments);
    registers_.emplace_back(id, number);
    return number;
  }

  [[nodiscard]] ElementwiseProgram take() { return std::move(program_); }

 private:
  [[nodiscard]] std::int32_t next_register() const {
    return static_cast<std::int32_t>(program_.inputs.size() + program_.instructions.size());
  }
  std::int32_t append(Operation operation, DType dtype, std::vector<std::int32_t> arguments) {
    const std::int32_t number = next_register();
    program_.instructions.push_back({std::move(operation), dtype, std::move(arguments)});
    return number;
  }
  std::int32_t write_operation(const GraphNode& node, const std::vector<std::int32_t>& arguments) {
    const DType dtype = node.spec.dtype;
    if (std::holds_alternative<op::SwiGlu>(node.operation)) {
      const std::int32_t gate = append(op::Unary{UnaryKind::kSilu}, dtype, {arguments[0]});
      return append(op::Binary{BinaryKind::kMultiply}, dtype, {gate, arguments[1]});
    }
    const auto* nested = std::get_if<op::Elementwise>(&node.operation);
    if (nested == nullptr) return append(node.operation, dtype, arguments);
    std::vector<std::int32_t> renumbered = arguments;
    for (const ElementwiseInstruction& instruction : nested->program->instructions) {
      std::vector<std::int32_t> moved;
      for (const std::int32_t argument : instruction.arguments) {
        moved.push_back(renumbered[static_cast<std::size_t>(argument)]);
      }
      renumbered.push_back(append(instruction.operation, instruction.dtype, std::move(moved)));
    }
    return renumbered.back();
  }

  const ComputationGraph& graph_;
  ElementwiseProgram program_;
  std::vector<std::pair<NodeId, std::int32_t>> registers_;
};

}  // namespace

std::size_t instructions_of(const Operation& operation) {
  if (std::holds_alternative<op::SwiGlu>(operation)) return 2;
  if (const auto* program = std::get_if<op::Elementwise>(&operation)) {
    return program->program->instructions.size();
  }
  return 1;
}

ElementwiseGroup ElementwiseGroup::that_ends_in(const ComputationGraph& graph, NodeId last) {
  ElementwiseGroup group(graph, graph.node(last).spec.shape);
  group.join(last, true);
  return group;
}

ElementwiseGroup ElementwiseGroup::that_is_read_by(const ComputationGraph& graph, NodeId reader) {
  const NodeId last = graph.node(reader).inputs[0];
  ElementwiseGroup group(graph, graph.node(last).spec.shape);
  group.ours_.push_back(reader);
  group.operands_.push_back(last);
  return group;
}

void ElementwiseGroup::grow() {
  while (join_one_of_ours() || join_shared_cast()) {
  }
}

bool ElementwiseGroup::is_program() const {
  return !members_.empty() && !operands_.empty() && operands_.size() <= kMaxOperands;
}

std::shared_ptr<const ElementwiseProgram> ElementwiseGroup::program() const {
  ProgramWriter writer(graph_, operands_);
  // At most kMaxInstructions deep.
  writer.write(members_.front());
  return std::make_shared<const ElementwiseProgram>(writer.take());
}

template <typename Condition>
bool ElementwiseGroup::join_first(const Condition& condition, bool ours) {
  const auto candidate = std::find_if(operands_.begin(), operands_.end(),
                                      [&](NodeId id) { return fits(id) && condition(id); });
  if (candidate == operands_.end()) return false;
  const NodeId id = *candidate;
  operands_.erase(candidate);
  join(id, ours);
  return true;
}

bool ElementwiseGroup::join_one_of_ours() {
  return join_first([&](NodeId id) { return only_we_use(graph_.node(id)); }, true);
}

/// A cast that others read too is computed here once more, but not if its source is better
/// computed together with it.
bool ElementwiseGroup::join_shared_cast() {
  return join_first(
      [&](NodeId id) {
        if (graph_.get_if<op::Cast>(id) == nullptr) return false;
        const NodeId source = graph_.node(id).inputs[0];
        return !(can_join(graph_, source) && graph_.has_one_use(source));
      },
      false);
}

/// Whether the group keeps its bounds with this producer.
bool ElementwiseGroup::fits(NodeId id) const {
  const GraphNode& node = graph_.node(id);
  if (!can_join(graph_, id) || node.spec.shape != shape_) return false;
  std::size_t new_operands = 0;
  std::size_t new_constants = 0;
  for (const NodeId input : node.inputs) {
    if (is_scalar_constant(graph_, input)) {
      new_constants += contains(constants_, input) ? 0 : 1;
    } else {
      new_operands += contains(operands_, input) ? 0 : 1;
    }
  }
  return operands_.size() - 1 + new_operands <= kMaxOperands &&
         instructions() + instructions_of(node.operation) + new_constants <= kMaxInstructions;
}

/// Whether the node will not be needed once the group is one program.
bool ElementwiseGroup::only_we_use(const GraphNode& node) const {
  // More users than a group can hold need not be looked at.
  if (node.output_uses > 0 || node.users.size() > 3 * kMaxInstructions) return false;
  return std::all_of(node.users.begin(), node.users.end(),
                     [&](NodeId user) { return contains(ours_, user); });
}

void ElementwiseGroup::join(NodeId id, bool ours) {
  members_.push_back(id);
  if (ours) ours_.push_back(id);
  instructions_ += instructions_of(graph_.node(id).operation);
  for (const NodeId input : graph_.node(id).inputs) {
    std::vector<NodeId>& list = is_scalar_constant(graph_, input) ? constants_ : operands_;
    if (!contains(list, input) && !contains(members_, input)) list.push_back(input);
  }
}

}  // namespace metal_candle::passes
