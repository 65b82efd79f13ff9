// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matching is a search with backtracking over a list of goals "this pattern at that node". The list
// lives on the stack: each choice puts its goals in front of those that remain.
#include "metal_candle/optimize/pattern.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "metal_candle/optimize/constants.h"

namespace metal_candle::pattern {

struct Element {
  enum class Kind : std::uint8_t { kVar, kScalar, kConstant, kOperation, kAnyOf, kBind, kWhere };
  Kind kind;
  int variable = 0;     // kVar, kScalar, kBind.
  double constant = 0;  // kConstant.
  std::size_t operation_index = 0;
  bool commutative = false;
  std::function<bool(const Operation&)> accepts = nullptr;
  NodeCondition condition = nullptr;  // kWhere.
  std::vector<Pattern> children =
      {};  // Operands, alternatives, or the one pattern that is qualified.
  OperationSet roots = OperationSet::all();  // Operations that the node may have.
};

namespace {

int next_variable() {
  static std::atomic<int> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

/// Half a unit in the last place of the dtype, and for f32 what shortened decimal constants differ
/// by.
double constant_tolerance(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return 1.0 / 256;
    case DType::kF16:
      return 1.0 / 2048;
    default:
      return 2e-6;
  }
}

bool same_constant(double actual, double expected, DType dtype) {
  if (std::isinf(expected)) return actual == expected;
  return std::abs(actual - expected) <= constant_tolerance(dtype) * std::abs(expected);
}

}  // namespace

Var::Var() : id_(next_variable()) {}
ScalarVar::ScalarVar() : id_(next_variable()) {}

class Matcher {
 public:
  Matcher(const ComputationGraph& graph, NodeId root, const MatchCondition& accept)
      : graph_(graph), accept_(accept), match_(graph) {
    match_.root_ = root;
  }

  std::optional<Match> run(const Pattern& p) {
    const Goal goal{p.element_.get(), match_.root_, nullptr};
    if (!solve(&goal)) return std::nullopt;
    return std::move(match_);
  }

  static OperationSet roots(const Pattern& p) { return p.element_->roots; }
  static OperationSet roots_of(const Element& element) {
    switch (element.kind) {
      case Element::Kind::kOperation:
        return OperationSet::of_index(element.operation_index);
      case Element::Kind::kScalar:
      case Element::Kind::kConstant:
      case Element::Kind::kVar:
        return OperationSet::all();
      default: {
        OperationSet set;
        for (const Pattern& child : element.children) set = set | roots(child);
        return set;
      }
    }
  }

 private:
  struct Goal {
    const Element* element;
    NodeId node;
    const Goal* next;
  };

  bool solve(const Goal* goal) {
    if (goal == nullptr) return interior_is_private() && (!accept_ || accept_(match_));
    const Element& element = *goal->element;
    switch (element.kind) {
      case Element::Kind::kVar:
        return solve_binding(element.variable, goal->node, goal->next);
      case Element::Kind::kBind: {
        const Goal inner{element.children[0].element_.get(), goal->node, goal->next};
        return solve_binding(element.variable, goal->node, &inner);
      }
      case Element::Kind::kScalar:
        return solve_scalar(element.variable, *goal);
      case Element::Kind::kConstant: {
        const auto value = constant_value(graph_, goal->node);
        return value &&
               same_constant(*value, element.constant, graph_.node(goal->node).spec.dtype) &&
               solve(goal->next);
      }
      case Element::Kind::kWhere: {
        const Goal inner{element.children[0].element_.get(), goal->node, goal->next};
        return element.condition(graph_, goal->node) && solve(&inner);
      }
      case Element::Kind::kAnyOf:
        return std::any_of(element.children.begin(), element.children.end(), [&](const Pattern& p) {
          const Goal inner{p.element_.get(), goal->node, goal->next};
          return solve(&inner);
        });
      case Element::Kind::kOperation:
        return solve_operation(element, *goal);
    }
    return false;
  }

  bool solve_binding(int variable, NodeId node, const Goal* next) {
    const NodeId bound = match_.find(variable);
    if (bound != kNoNode) return bound == node && solve(next);
    match_.nodes_.emplace_back(variable, node);
    if (solve(next)) return true;
    match_.nodes_.pop_back();
    return false;
  }

  bool solve_scalar(int variable, const Goal& goal) {
    const auto value = constant_value(graph_, goal.node);
    if (!value) return false;
    if (const double* bound = match_.find_scalar(variable)) {
      return *bound == *value && solve(goal.next);
    }
    match_.scalars_.emplace_back(variable, *value);
    if (solve(goal.next)) return true;
    match_.scalars_.pop_back();
    return false;
  }

  bool solve_operation(const Element& element, const Goal& goal) {
    const GraphNode& node = graph_.node(goal.node);
    if (node.is_input() || node.operation.index() != element.operation_index) return false;
    if (node.inputs.size() != element.children.size()) return false;
    const bool straight = may_match(element, node.inputs, false);
    const bool swapped = element.commutative && may_match(element, node.inputs, true);
    if (!straight && !swapped) return false;
    if (element.accepts && !element.accepts(node.operation)) return false;
    interior_.push_back(goal.node);
    if (straight && solve_operands(element, node.inputs, 0, false, goal.next)) return true;
    if (swapped && solve_operands(element, node.inputs, 0, true, goal.next)) return true;
    interior_.pop_back();
    return false;
  }

  /// As far as the operations of the operands say, which rules most out.
  bool may_match(const Element& element, const std::vector<NodeId>& inputs, bool swapped) const {
    const std::size_t count = inputs.size();
    for (std::size_t i = 0; i < count; ++i) {
      const OperationSet roots = element.children[i].element_->roots;
      if (roots == OperationSet::all()) continue;
      const GraphNode& node = graph_.node(inputs[swapped ? count - 1 - i : i]);
      if (node.is_input() || !roots.contains(node.operation)) return false;
    }
    return true;
  }

  /// Puts the operands from `i` on in front of `next`, the last one first.
  bool solve_operands(const Element& element, const std::vector<NodeId>& inputs, std::size_t i,
                      bool swapped, const Goal* next) {
    const std::size_t count = inputs.size();
    if (i == count) return solve(next);
    const std::size_t operand = count - 1 - i;
    const Goal goal{element.children[operand].element_.get(),
                    inputs[swapped ? count - 1 - operand : operand], next};
    return solve_operands(element, inputs, i + 1, swapped, &goal);
  }

  /// Whether nothing outside the match uses what the rewrite would take away.
  [[nodiscard]] bool interior_is_private() const {
    return std::all_of(interior_.begin(), interior_.end(), [&](NodeId id) {
      return id == match_.root_ || only_match_uses(id) || is_free_to_keep(id);
    });
  }
  [[nodiscard]] bool is_interior(NodeId id) const {
    return std::find(interior_.begin(), interior_.end(), id) != interior_.end();
  }
  [[nodiscard]] bool only_match_uses(NodeId id) const {
    const GraphNode& node = graph_.node(id);
    // Nodes used beyond the size of any pattern need not be looked at further.
    return node.output_uses == 0 && node.users.size() <= kMaxUsers &&
           std::all_of(node.users.begin(), node.users.end(),
                       [&](NodeId user) { return is_interior(user); });
  }
  /// A view of what stays in any case costs nothing to keep.
  [[nodiscard]] bool is_free_to_keep(NodeId id) const {
    const GraphNode& node = graph_.node(id);
    const bool view =
        is_alias(node.operation) || std::holds_alternative<op::Reshape>(node.operation);
    return view && (!is_interior(node.inputs[0]) || is_free_to_keep(node.inputs[0]));
  }

  static constexpr std::size_t kMaxUsers = 8;

  const ComputationGraph& graph_;
  const MatchCondition& accept_;
  Match match_;
  std::vector<NodeId> interior_;  // Nodes matched by an operation, the root included.
};

namespace {

Pattern make(Element element) {
  element.roots = Matcher::roots_of(element);
  return Pattern(std::make_shared<const Element>(std::move(element)));
}

}  // namespace

Pattern::Pattern(const Var& var)
    : Pattern(make({.kind = Element::Kind::kVar, .variable = var.id()})) {}
Pattern::Pattern(const ScalarVar& scalar)
    : Pattern(make({.kind = Element::Kind::kScalar, .variable = scalar.id()})) {}
Pattern::Pattern(double constant)
    : Pattern(make({.kind = Element::Kind::kConstant, .constant = constant})) {}

Pattern Pattern::as(const Var& var) const {
  return make({.kind = Element::Kind::kBind, .variable = var.id(), .children = {*this}});
}

Pattern Pattern::where(NodeCondition condition) const {
  return make(
      {.kind = Element::Kind::kWhere, .condition = std::move(condition), .children = {*this}});
}

OperationSet Pattern::roots() const { return element_->roots; }

Pattern operation(std::size_t index, std::function<bool(const Operation&)> accepts,
                  std::vector<Pattern> operands, bool commutative) {
  return make({.kind = Element::Kind::kOperation,
               .operation_index = index,
               .commutative = commutative,
               .accepts = std::move(accepts),
               .children = std::move(operands)});
}

Pattern any_of(std::vector<Pattern> alternatives) {
  return make({.kind = Element::Kind::kAnyOf, .children = std::move(alternatives)});
}

Pattern maybe_cast(const Pattern& p) {
  const auto floating = [](const ComputationGraph& graph, NodeId id) {
    return is_floating(graph.node(id).spec.dtype);
  };
  return any_of({p, cast(p.where(floating)).where(floating)});
}

Pattern maybe_reshape(const Pattern& p) { return any_of({p, operation<op::Reshape>(p)}); }

Pattern unary(UnaryKind kind, const Pattern& x) {
  return operation(
      OperationSet::index_of<op::Unary>(),
      [kind](const Operation& o) { return std::get<op::Unary>(o).kind == kind; }, {x}, false);
}

Pattern binary(BinaryKind kind, const Pattern& a, const Pattern& b) {
  return operation(
      OperationSet::index_of<op::Binary>(),
      [kind](const Operation& o) { return std::get<op::Binary>(o).kind == kind; }, {a, b},
      is_commutative(kind));
}

Pattern reduce(ReduceKind kind, const Pattern& x) {
  return operation(
      OperationSet::index_of<op::Reduce>(),
      [kind](const Operation& o) { return std::get<op::Reduce>(o).kind == kind; }, {x}, false);
}

Pattern mean_of_last_axis(const Pattern& x) {
  // sum * c with c n close to 1, or sum / n.
  const auto is_mean = [](const ComputationGraph& graph, NodeId id) {
    const auto& inputs = graph.node(id).inputs;
    const auto* combination = graph.get_if<op::Binary>(id);
    if (combination == nullptr) return false;
    const bool divided = combination->kind == BinaryKind::kDivide;
    for (int i = 0; i < 2; ++i) {
      const auto* sum = graph.get_if<op::Reduce>(inputs[static_cast<std::size_t>(i)]);
      const auto c = constant_value(graph, inputs[static_cast<std::size_t>(1 - i)]);
      if (sum == nullptr || !c || (divided && i != 0)) continue;
      const NodeId summed = graph.node(inputs[static_cast<std::size_t>(i)]).inputs[0];
      const Shape& shape = graph.node(summed).spec.shape;
      if (shape.empty()) continue;
      const auto n = static_cast<double>(shape.back());
      return sum->keepdims && sum->axes == Axes{shape.rank() - 1} &&
             same_constant(divided ? 1 / *c : *c, 1 / n, graph.node(id).spec.dtype);
    }
    return false;
  };
  // The constant itself is checked above, beside the length of the axis.
  const Pattern sum = reduce(ReduceKind::kSum, x);
  return any_of({(sum * ScalarVar()).where(is_mean), (sum / ScalarVar()).where(is_mean)});
}

Pattern squared(const Pattern& x) {
  return any_of({unary(UnaryKind::kSquare, x), x * x, binary(BinaryKind::kPower, x, 2.0)});
}

Pattern divided_by_sqrt(const Pattern& x, const Pattern& y) {
  const Pattern root = any_of({unary(UnaryKind::kSqrt, y), binary(BinaryKind::kPower, y, 0.5)});
  const Pattern inverse =
      any_of({unary(UnaryKind::kRsqrt, y), 1.0 / root, unary(UnaryKind::kReciprocal, root),
              binary(BinaryKind::kPower, y, -0.5)});
  return any_of({x * inverse, x / root});
}

std::optional<Match> match(const ComputationGraph& graph, NodeId root, const Pattern& p,
                           const MatchCondition& accept) {
  return Matcher(graph, root, accept).run(p);
}

}  // namespace metal_candle::pattern
