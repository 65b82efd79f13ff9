// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A pass that is a list of rules "what matches this pattern is replaced by that".
#pragma once

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "metal_candle/optimize/fusion_pass.h"
#include "metal_candle/optimize/pattern.h"

namespace metal_candle {

/// Adds the replacement of a match to the graph and returns it: a node with the root's spec.
using Replacement = std::function<NodeId(ComputationGraph&, const pattern::Match&)>;

struct RewriteRule {
  pattern::Pattern from;
  /// What must hold beyond the pattern: shapes, axes. May be null.
  pattern::MatchCondition when;
  Replacement to;
};

/// The rules are tried in order. Everything that decides whether to rewrite belongs in a rule's
/// pattern and condition: its replacement may not refuse.
class RewritePass : public FusionPass {
 public:
  /// `name` must outlive the pass.
  RewritePass(std::string_view name, std::vector<RewriteRule> rules);
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] OperationSet roots() const override { return roots_; }
  /// Making the patterns takes longer than matching them with a small graph.
  [[nodiscard]] bool reusable() const override { return true; }
  bool try_fuse(ComputationGraph& graph, NodeId node) override;

 private:
  std::string_view name_;
  std::vector<RewriteRule> rules_;
  std::vector<OperationSet> roots_of_rules_;
  OperationSet roots_;
};

// ---- What the rules of several passes share -----------------------------------------------------

/// The axis of a Reduce over exactly one axis, else nothing.
[[nodiscard]] std::optional<int> single_reduced_axis(const op::Reduce* reduce);
/// Whether `shape` is that of a vector along the last axis of tensors of shape `full`: [n] or
/// [1, .., 1, n].
[[nodiscard]] bool is_row(const Shape& shape, const Shape& full);
/// `node` as a vector [n]: itself or a reshape.
[[nodiscard]] NodeId as_vector(ComputationGraph& graph, NodeId node);
/// `node` in this shape: itself or a reshape.
[[nodiscard]] NodeId as_shape(ComputationGraph& graph, NodeId node, const Shape& shape);
/// `node` in this dtype: itself or a cast.
[[nodiscard]] NodeId as_dtype(ComputationGraph& graph, NodeId node, DType dtype);
/// Output `index` of `node`, with this spec.
[[nodiscard]] NodeId pick(ComputationGraph& graph, NodeId node, int index, const TensorSpec& spec);

/// cast(f(cast(x), ...)) -> f(x, ...) for a normalisation f in f32 of 16-bit operands, back to
/// their dtype: f accumulates in f32 anyway. Op is the operation of f.
template <typename Op>
RewriteRule without_casts(int num_operands = 1) {
  const pattern::Var f;
  std::vector<pattern::Var> x(static_cast<std::size_t>(num_operands));
  std::vector<pattern::Pattern> casts;
  for (const pattern::Var& operand : x) casts.push_back(pattern::cast(operand));
  const pattern::Pattern wide =
      pattern::operation(OperationSet::index_of<Op>(), nullptr, std::move(casts), false);
  return {.from = pattern::cast(wide.as(f)),
          .when =
              [=](const pattern::Match& m) {
                const DType narrow = m.root_spec().dtype;
                return m.spec(f).dtype == DType::kF32 && is_floating(narrow) &&
                       narrow != DType::kF32 &&
                       std::all_of(x.begin(), x.end(), [&](const pattern::Var& operand) {
                         return m.spec(operand).dtype == narrow;
                       });
              },
          .to =
              [=](ComputationGraph& graph, const pattern::Match& m) {
                std::vector<NodeId> operands;
                for (const pattern::Var& operand : x) operands.push_back(m[operand]);
                return graph.add(*m.get_if<Op>(f), operands);
              }};
}

}  // namespace metal_candle
