// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Patterns of graph nodes that read like algebra:
//
//   const Var x, a, b;
//   const ScalarVar s;
//   const Pattern lora = matmul(matmul(x, a), b) * s;
//   if (const auto match = pattern::match(graph, root, lora)) ... (*match)[x] ...
//
// A match binds each Var to one node: a Var that occurs twice means the same node twice. Operands
// of commutative operations match in either order, and all alternatives are tried, so that a match
// is found if there is one. The nodes between the root and the Vars (the interior) are what a
// rewrite takes away; so a match is refused when one of them is an output of the graph or has a
// user outside the match. Constants may have any users.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/optimize/fusion_pass.h"

namespace metal_candle::pattern {

class Matcher;
struct Element;

/// Matches any node. Copies are the same variable.
class Var {
 public:
  Var();
  [[nodiscard]] int id() const { return id_; }

 private:
  int id_;
};

/// Matches a constant: Full, seen through casts, reshapes and broadcasts. Copies are the same
/// variable; one that occurs twice matches equal constants.
class ScalarVar {
 public:
  ScalarVar();
  [[nodiscard]] int id() const { return id_; }

 private:
  int id_;
};

/// What a successful match bound.
class Match {
 public:
  explicit Match(const ComputationGraph& graph) : graph_(&graph) {}
  [[nodiscard]] bool has(const Var& var) const { return find(var.id()) != kNoNode; }
  [[nodiscard]] bool has(const ScalarVar& var) const { return find_scalar(var.id()) != nullptr; }
  /// The node of a bound variable.
  [[nodiscard]] NodeId operator[](const Var& var) const { return find(var.id()); }
  /// The constant, rounded to its dtype.
  [[nodiscard]] double operator[](const ScalarVar& var) const { return *find_scalar(var.id()); }
  [[nodiscard]] double value_or(const ScalarVar& var, double otherwise) const {
    const double* value = find_scalar(var.id());
    return value != nullptr ? *value : otherwise;
  }

  [[nodiscard]] NodeId root() const { return root_; }
  [[nodiscard]] const ComputationGraph& graph() const { return *graph_; }
  [[nodiscard]] const TensorSpec& spec(const Var& var) const {
    return graph_->node((*this)[var]).spec;
  }
  [[nodiscard]] const Shape& shape(const Var& var) const { return spec(var).shape; }
  [[nodiscard]] const TensorSpec& root_spec() const { return graph_->node(root_).spec; }
  /// The operation of the node that `var` is bound to, if it is a T.
  template <typename T>
  [[nodiscard]] const T* get_if(const Var& var) const {
    return graph_->get_if<T>((*this)[var]);
  }

 private:
  friend class Matcher;
  [[nodiscard]] NodeId find(int id) const {
    for (const auto& [bound, node] : nodes_) {
      if (bound == id) return node;
    }
    return kNoNode;
  }
  [[nodiscard]] const double* find_scalar(int id) const {
    for (const auto& entry : scalars_) {
      if (entry.first == id) return &entry.second;
    }
    return nullptr;
  }

  const ComputationGraph* graph_;
  NodeId root_ = kNoNode;
  std::vector<std::pair<int, NodeId>> nodes_;
  std::vector<std::pair<int, double>> scalars_;
};

/// A condition on a match as a whole, or on one node of it.
using MatchCondition = std::function<bool(const Match&)>;
using NodeCondition = std::function<bool(const ComputationGraph&, NodeId)>;

/// An immutable pattern; copying copies a handle.
class Pattern {
 public:
  Pattern(const Var& var);           // NOLINT(google-explicit-constructor)
  Pattern(const ScalarVar& scalar);  // NOLINT(google-explicit-constructor)
  /// A constant within rounding of this value: a few units in the last place of its dtype.
  Pattern(double constant);  // NOLINT(google-explicit-constructor)
  explicit Pattern(std::shared_ptr<const Element> element) : element_(std::move(element)) {}

  /// The same, and binds the node it matches.
  [[nodiscard]] Pattern as(const Var& var) const;
  /// The same, where the node also satisfies the condition, which may be asked about any node.
  [[nodiscard]] Pattern where(NodeCondition condition) const;
  /// Operations that the root can have.
  [[nodiscard]] OperationSet roots() const;

 private:
  friend class Matcher;
  std::shared_ptr<const Element> element_;
};

/// A node whose operation satisfies `accepts` (which sees only operations of type `index`), with
/// these operands.
Pattern operation(std::size_t index, std::function<bool(const Operation&)> accepts,
                  std::vector<Pattern> operands, bool commutative);
/// A node with an operation of type Op, whatever its attributes.
template <typename Op, typename... Operands>
Pattern operation(const Operands&... operands) {
  return operation(OperationSet::index_of<Op>(), nullptr, {Pattern(operands)...}, false);
}
/// The first of these that leads to a match.
Pattern any_of(std::vector<Pattern> alternatives);
/// p, or a conversion of p between floating dtypes.
Pattern maybe_cast(const Pattern& p);
/// p, or p reshaped.
Pattern maybe_reshape(const Pattern& p);

Pattern unary(UnaryKind kind, const Pattern& x);
Pattern binary(BinaryKind kind, const Pattern& a, const Pattern& b);
Pattern reduce(ReduceKind kind, const Pattern& x);
/// The mean of x over its last axis, which is kept with length 1.
Pattern mean_of_last_axis(const Pattern& x);
/// x squared, in any of its spellings.
Pattern squared(const Pattern& x);
/// x / sqrt(y), in any of its spellings.
Pattern divided_by_sqrt(const Pattern& x, const Pattern& y);

inline Pattern operator+(const Pattern& a, const Pattern& b) {
  return binary(BinaryKind::kAdd, a, b);
}
inline Pattern operator-(const Pattern& a, const Pattern& b) {
  return binary(BinaryKind::kSubtract, a, b);
}
inline Pattern operator*(const Pattern& a, const Pattern& b) {
  return binary(BinaryKind::kMultiply, a, b);
}
inline Pattern operator/(const Pattern& a, const Pattern& b) {
  return binary(BinaryKind::kDivide, a, b);
}
inline Pattern operator-(const Pattern& a) { return unary(UnaryKind::kNegative, a); }
inline Pattern exp(const Pattern& a) { return unary(UnaryKind::kExp, a); }
inline Pattern log(const Pattern& a) { return unary(UnaryKind::kLog, a); }
inline Pattern matmul(const Pattern& a, const Pattern& b) { return operation<op::Matmul>(a, b); }
inline Pattern cast(const Pattern& a) { return operation<op::Cast>(a); }

/// Matches p at root, or nothing. `accept`, where given, is the last condition on the whole; when
/// it says no, further alternatives are tried.
[[nodiscard]] std::optional<Match> match(const ComputationGraph& graph, NodeId root,
                                         const Pattern& p, const MatchCondition& accept = nullptr);

}  // namespace metal_candle::pattern
