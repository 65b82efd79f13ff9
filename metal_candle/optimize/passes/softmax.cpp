// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// softmax, with sums and maxima over one axis (kept, but in the result of logsumexp), and with or
// without the shift by the maximum:
//
//   e / sum(e), e = exp(x - max(x))              -> softmax(x)
//   (x - max(x)) - log(sum(exp(x - max(x))))     -> log_softmax(x)
//   log(sum(exp(x - max(x)))) + max(x)           -> logsumexp(x)
//   x - logsumexp(x), log(softmax(x))            -> log_softmax(x)
//   exp(log_softmax(x))                          -> softmax(x)
//   cast(softmax(cast(x)))                       -> softmax(x), log_softmax alike
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

using namespace pattern;

/// What the spellings share: x, the sum and, where there is one, the maximum.
struct Terms {
  Var x, sum, max;
  Pattern largest = reduce(ReduceKind::kMax, x).as(max);
  /// x, shifted or not.
  Pattern shifted = any_of({x - largest, x});
  Pattern exponential = exp(shifted);
  Pattern total = reduce(ReduceKind::kSum, exponential).as(sum);

  [[nodiscard]] int axis(const Match& m) const {
    return *single_reduced_axis(m.get_if<op::Reduce>(sum));
  }
  [[nodiscard]] MatchCondition kept_along_one_axis() const {
    const Terms t = *this;
    return [t](const Match& m) {
      const auto* total_op = m.get_if<op::Reduce>(t.sum);
      const auto axis = single_reduced_axis(total_op);
      if (!axis || !total_op->keepdims || !is_floating(m.root_spec().dtype)) return false;
      return !m.has(t.max) ||
             *m.get_if<op::Reduce>(t.max) == op::Reduce{ReduceKind::kMax, {*axis}, true};
    };
  }
};

RewriteRule to_softmax(const Terms& t, const Pattern& from) {
  return {from, t.kept_along_one_axis(), [t](ComputationGraph& graph, const Match& m) {
            return graph.add(op::Softmax{t.axis(m)}, {m[t.x]});
          }};
}

RewriteRule to_log_softmax(const Terms& t, const Pattern& from) {
  return {from, t.kept_along_one_axis(), [t](ComputationGraph& graph, const Match& m) {
            return graph.add(op::LogSoftmax{t.axis(m)}, {m[t.x]});
          }};
}

/// log(sum(exp(x))), without a shift.
RewriteRule to_logsumexp(const Terms& t) {
  return {log(reduce(ReduceKind::kSum, exp(t.x)).as(t.sum)),
          [t](const Match& m) {
            const auto axis = single_reduced_axis(m.get_if<op::Reduce>(t.sum));
            // The logsumexp of nothing is refused, the logarithm of an empty sum is not.
            return axis && m.shape(t.x)[*axis] > 0 && is_floating(m.root_spec().dtype);
          },
          [t](ComputationGraph& graph, const Match& m) {
            const bool keepdims = m.get_if<op::Reduce>(t.sum)->keepdims;
            return graph.add(op::LogSumExp{t.axis(m), keepdims}, {m[t.x]});
          }};
}

/// logsumexp(x - max(x)) + max(x). The second maximum may be another node, or a reshape, where the
/// axis is dropped.
RewriteRule to_shifted_logsumexp() {
  const Var x, inner_max, outer_max, reduced;
  const Pattern shifted = x - reduce(ReduceKind::kMax, x).as(inner_max);
  const Pattern outer = maybe_reshape(reduce(ReduceKind::kMax, x).as(outer_max));
  return {operation<op::LogSumExp>(shifted).as(reduced) + outer,
          [=](const Match& m) {
            const auto* lse = m.get_if<op::LogSumExp>(reduced);
            const op::Reduce kept{ReduceKind::kMax, {lse->axis}, true};
            const op::Reduce* other = m.get_if<op::Reduce>(outer_max);
            return *m.get_if<op::Reduce>(inner_max) == kept && other->axes == kept.axes &&
                   m.spec(reduced) == m.root_spec();
          },
          [=](ComputationGraph& graph, const Match& m) {
            return graph.add(*m.get_if<op::LogSumExp>(reduced), {m[x]});
          }};
}

/// x - logsumexp(x), and the same of a shifted x, which shifts cancel.
RewriteRule to_log_softmax_from_logsumexp() {
  const Var x, max, reduced;
  const Pattern shifted = any_of({x - reduce(ReduceKind::kMax, x).as(max), x});
  return {shifted - operation<op::LogSumExp>(shifted).as(reduced),
          [=](const Match& m) {
            const auto* lse = m.get_if<op::LogSumExp>(reduced);
            if (!lse->keepdims) return false;
            return !m.has(max) ||
                   *m.get_if<op::Reduce>(max) == op::Reduce{ReduceKind::kMax, {lse->axis}, true};
          },
          [=](ComputationGraph& graph, const Match& m) {
            return graph.add(op::LogSoftmax{m.get_if<op::LogSumExp>(reduced)->axis}, {m[x]});
          }};
}

template <typename From, typename To>
RewriteRule composed(UnaryKind outer) {
  const Var x, inner;
  return {unary(outer, operation<From>(x).as(inner)), nullptr,
          [=](ComputationGraph& graph, const Match& m) {
            return graph.add(To{m.get_if<From>(inner)->axis}, {m[x]});
          }};
}

}  // namespace

PassPtr softmax() {
  const Terms t;
  return std::make_unique<RewritePass>(
      "softmax", std::vector<RewriteRule>{
                     to_softmax(t, t.exponential / t.total),
                     to_softmax(t, t.exponential * unary(UnaryKind::kReciprocal, t.total)),
                     to_log_softmax(t, t.shifted - log(t.total)),
                     to_logsumexp(t),
                     to_shifted_logsumexp(),
                     to_log_softmax_from_logsumexp(),
                     composed<op::LogSoftmax, op::Softmax>(UnaryKind::kExp),
                     composed<op::Softmax, op::LogSoftmax>(UnaryKind::kLog),
                     without_casts<op::Softmax>(),
                     without_casts<op::LogSoftmax>(),
                 });
}

}  // namespace metal_candle::passes
