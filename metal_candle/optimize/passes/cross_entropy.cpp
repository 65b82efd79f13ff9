// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// cross_entropy, over the last axis of x, with i the targets reshaped to [.., 1]:
//
//   take_along_axis(log_softmax(x), i)       -> -cross_entropy(x, targets)
//   logsumexp(x) - take_along_axis(x, i)     -> cross_entropy(x, targets)
//   cross_entropy(cast(x), targets)          -> cross_entropy(x, targets), which computes in f32
//
// The sign of the first cancels against that of a loss.
#include <limits>

#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

using namespace pattern;

/// Primitives ignore no target.
constexpr std::int64_t kIgnoreNothing = std::numeric_limits<std::int64_t>::min();

/// Whether `taken` takes one element of each row of x.
bool takes_one_a_row(const Match& m, const Var& taken, const Var& indices, const Var& x) {
  return m.get_if<op::TakeAlongAxis>(taken)->axis == m.shape(x).rank() - 1 &&
         m.shape(indices).back() == 1 && m.shape(x).back() > 0 && is_floating(m.spec(x).dtype);
}

/// The loss of cross_entropy(x, indices without their last axis), in the spec of the root.
NodeId add_loss(ComputationGraph& graph, NodeId x, NodeId indices, TensorSpec spec) {
  Shape rows = graph.node(indices).spec.shape;
  rows.erase(rows.rank() - 1);
  const NodeId targets = as_shape(graph, indices, rows);
  const NodeId both = graph.add(op::CrossEntropy{kIgnoreNothing}, {x, targets});
  const NodeId loss = pick(graph, both, 0, {rows, DType::kF32});
  return as_dtype(graph, as_shape(graph, loss, spec.shape), spec.dtype);
}

RewriteRule from_log_softmax() {
  const Var x, indices, taken, logs;
  const Pattern log_probabilities = operation<op::LogSoftmax>(x).as(logs);
  return {operation<op::TakeAlongAxis>(log_probabilities, indices).as(taken),
          [=](const Match& m) {
            return takes_one_a_row(m, taken, indices, x) &&
                   m.get_if<op::LogSoftmax>(logs)->axis == m.shape(x).rank() - 1;
          },
          [=](ComputationGraph& graph, const Match& m) {
            const NodeId loss = add_loss(graph, m[x], m[indices], m.root_spec());
            return graph.add(op::Unary{UnaryKind::kNegative}, {loss});
          }};
}

RewriteRule from_logsumexp() {
  const Var x, indices, taken, reduced;
  return {maybe_reshape(operation<op::LogSumExp>(x).as(reduced)) -
              maybe_reshape(operation<op::TakeAlongAxis>(x, indices).as(taken)),
          [=](const Match& m) {
            return takes_one_a_row(m, taken, indices, x) &&
                   m.get_if<op::LogSumExp>(reduced)->axis == m.shape(x).rank() - 1 &&
                   // One loss a row, and not every pair of rows.
                   num_elements(m.root_spec().shape) == num_elements(m.shape(indices));
          },
          [=](ComputationGraph& graph, const Match& m) {
            return add_loss(graph, m[x], m[indices], m.root_spec());
          }};
}

RewriteRule from_cast_logits() {
  const Var x, logits, targets, loss;
  return {operation<op::CrossEntropy>(cast(x).as(logits), targets).as(loss),
          [=](const Match& m) {
            return m.spec(logits).dtype == DType::kF32 && is_floating(m.spec(x).dtype);
          },
          [=](ComputationGraph& graph, const Match& m) {
            const op::CrossEntropy attributes = *m.get_if<op::CrossEntropy>(loss);
            return graph.add(attributes, {m[x], m[targets]});
          }};
}

}  // namespace

PassPtr cross_entropy() {
  return std::make_unique<RewritePass>(
      "cross_entropy",
      std::vector<RewriteRule>{from_log_softmax(), from_logsumexp(), from_cast_logits()});
}

}  // namespace metal_candle::passes
