// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// attention, for q [b, h, lq, d], k [b, hkv, lk, d], v [b, hkv, lk, dv]:
//
//   softmax(s) @ v                     -> attention(q, k, v)
//   softmax(s + mask) @ v              -> attention(q, k, v, mask)
//   softmax(where(mask, s, -inf)) @ v  -> attention(q, k, v, mask)
//   softmax(where(mask, -inf, s)) @ v  -> attention(q, k, v, !mask)
//   attention(q, k, v, mask)           -> causal attention(q, k, v), where the graph computes the
//                                         mask of that from positions; its gradient likewise
//   attention(q, k, v, causal && mask) -> causal attention(q, k, v, mask), likewise
//
// with s = scale * (q @ k^T), where the scale may multiply or divide the product, q or k. Heads of
// k and v that are repeated to h (reshape, broadcast, reshape) are read once instead. A query that
// sees no key gives 0 instead of NaN. A causal mask may hide with a large negative number instead
// of -inf.
#include <cmath>
#include <optional>

#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/causal_mask.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

using namespace pattern;

/// A pattern times or over a constant, or alone.
struct Scaled {
  ScalarVar factor, divisor;
  [[nodiscard]] Pattern of(const Pattern& p) const { return any_of({p * factor, p / divisor, p}); }
  [[nodiscard]] double value(const Match& m) const {
    return m.value_or(factor, 1) / m.value_or(divisor, 1);
  }
};

/// Heads repeated in groups: [b, n, l, d] -> [b, n, 1, l, d] -> [b, n, g, l, d] -> [b, n g, l, d].
Pattern repeated(const Var& heads) {
  const auto is_repeat = [](const ComputationGraph& graph, NodeId id) {
    const auto shape_of = [&](NodeId node) { return graph.node(node).spec.shape; };
    const NodeId wide = graph.node(id).is_input() ? kNoNode : graph.node(id).inputs[0];
    if (wide == kNoNode || graph.get_if<op::Broadcast>(wide) == nullptr) return false;
    const NodeId expanded = graph.node(wide).inputs[0];
    if (graph.get_if<op::Reshape>(expanded) == nullptr) return false;
    const Shape narrow = shape_of(graph.node(expanded).inputs[0]);
    const Shape repeated_shape = shape_of(wide);
    if (narrow.rank() != 4 || repeated_shape.rank() != 5) return false;
    const std::int64_t groups = repeated_shape[2];
    return shape_of(expanded) == Shape{narrow[0], narrow[1], 1, narrow[2], narrow[3]} &&
           repeated_shape == Shape{narrow[0], narrow[1], groups, narrow[2], narrow[3]} &&
           shape_of(id) == Shape{narrow[0], narrow[1] * groups, narrow[2], narrow[3]};
  };
  return operation<op::Reshape>(operation<op::Broadcast>(operation<op::Reshape>(heads)))
      .where(is_repeat);
}

Pattern maybe_repeated(const Var& heads) { return any_of({repeated(heads), heads}); }

Pattern last_axes_swapped(const Pattern& p) {
  return operation(
      OperationSet::index_of<op::Transpose>(),
      [](const Operation& o) {
        return std::get<op::Transpose>(o).permutation == Axes{0, 1, 3, 2};
      },
      {p}, false);
}

enum class Masking { kNone, kAdded, kSeen, kHidden };

struct Parts {
  Var q, k, v, mask, scores;
  ScalarVar hidden;  // What is selected where the mask hides.
  Scaled product_scale, q_scale, k_scale;

  [[nodiscard]] Pattern scaled_scores() const {
    const Pattern key = any_of({last_axes_swapped(k_scale.of(maybe_repeated(k))),
                                k_scale.of(last_axes_swapped(maybe_repeated(k)))});
    const Pattern product = matmul(q_scale.of(q), key);
    return maybe_cast(product_scale.of(maybe_cast(product))).as(scores);
  }
  [[nodiscard]] double scale(const Match& m) const {
    return product_scale.value(m) * q_scale.value(m) * k_scale.value(m);
  }

  /// What the shapes must be, given that the products are well formed.
  [[nodiscard]] bool fit(const Match& m, int softmax_axis) const {
    const Shape& qs = m.shape(q);
    const Shape& ks = m.shape(k);
    const Shape& vs = m.shape(v);
    if (qs.rank() != 4 || ks.rank() != 4 || vs.rank() != 4 || softmax_axis != 3) return false;
    const DType dtype = m.spec(q).dtype;
    if (m.spec(k).dtype != dtype || m.spec(v).dtype != dtype) return false;
    const TensorSpec result{{qs[0], qs[1], qs[2], vs[3]}, dtype};
    return qs[0] == ks[0] && qs[0] == vs[0] && ks[1] == vs[1] && ks[1] > 0 && qs[1] % ks[1] == 0 &&
           ks[2] == vs[2] && m.root_spec() == result &&
           m.shape(scores) == Shape{qs[0], qs[1], qs[2], ks[2]};
  }

  /// Whether selecting the constant hides keys. Where all keys of a query might be hidden, only
  /// -infinity does.
  [[nodiscard]] bool hide(const Match& m, Masking masking) const {
    if (!m.has(hidden)) return true;
    const Shape& all = m.shape(scores);
    return hides(m[hidden], m.spec(scores).dtype) &&
           (std::isinf(m[hidden]) ||
            (all[3] >= all[2] &&
             causal_window(m.graph(), m[mask], all[2], all[3], masking == Masking::kHidden)));
  }
};

RewriteRule rule(Masking masking) {
  const Parts parts;
  const Var softmax;
  const Pattern scores = parts.scaled_scores();
  const auto selected = [](const Pattern& condition, const Pattern& a, const Pattern& b) {
    return operation<op::Select>(condition, a, b);
  };
  const Pattern masked = masking == Masking::kAdded    ? scores + parts.mask
                         : masking == Masking::kSeen   ? selected(parts.mask, scores, parts.hidden)
                         : masking == Masking::kHidden ? selected(parts.mask, parts.hidden, scores)
                                                       : scores;
  const Var logits;
  const Pattern probabilities = operation<op::Softmax>(maybe_cast(masked.as(logits))).as(softmax);
  return {matmul(maybe_cast(probabilities), maybe_repeated(parts.v)),
          [=](const Match& m) {
            // A mask that made the scores larger would make the result larger.
            return parts.fit(m, m.get_if<op::Softmax>(softmax)->axis) &&
                   m.shape(logits) == m.shape(parts.scores) && parts.hide(m, masking);
          },
          [=](ComputationGraph& graph, const Match& m) {
            const op::Attention attention{.scale = static_cast<float>(parts.scale(m)),
                                          .causal = false,
                                          .window = 0,
                                          .has_mask = masking != Masking::kNone,
                                          .has_key_length = false};
            const TensorSpec result = m.root_spec();
            std::vector<NodeId> operands = {m[parts.q], m[parts.k], m[parts.v]};
            if (masking == Masking::kHidden) {
              operands.push_back(graph.add(op::Unary{UnaryKind::kLogicalNot}, {m[parts.mask]}));
            } else if (masking != Masking::kNone) {
              operands.push_back(m[parts.mask]);
            }
            return pick(graph, graph.add(attention, operands), 0, result);
          }};
}

/// Takes what says the same as causal attention out of the mask of an attention or its gradient.
template <typename Op>
struct CausalRule {
  static constexpr std::size_t kMaskOperand = std::is_same_v<Op, op::Attention> ? 3 : 6;

  struct Reading {
    int window;
    NodeId mask;  // What is left of it, or kNoNode.
  };

  static op::Attention& forward(op::Attention& o) { return o; }
  static op::Attention& forward(op::AttentionBackward& o) { return o.forward; }

  static std::optional<Reading> read(const ComputationGraph& graph, NodeId id) {
    Op operation = *graph.get_if<Op>(id);
    const op::Attention& o = forward(operation);
    const std::vector<NodeId>& inputs = graph.node(id).inputs;
    if (!o.has_mask || o.has_key_length || o.causal) return std::nullopt;
    const NodeId mask = inputs[kMaskOperand];
    const std::int64_t queries = graph.node(inputs[0]).spec.shape[2];
    const std::int64_t keys = graph.node(inputs[1]).spec.shape[2];
    if (const auto window = causal_window(graph, mask, queries, keys)) {
      return Reading{*window, kNoNode};
    }
    const auto* both = graph.get_if<op::Binary>(mask);
    if (both == nullptr || both->kind != BinaryKind::kLogicalAnd) return std::nullopt;
    for (const std::size_t i : {0u, 1u}) {
      const NodeId part = graph.node(mask).inputs[i], other = graph.node(mask).inputs[1 - i];
      if (graph.node(part).spec.dtype != DType::kBool) continue;
      if (graph.node(other).spec.dtype != DType::kBool) continue;
      if (const auto window = causal_window(graph, part, queries, keys)) {
        return Reading{*window, other};
      }
    }
    return std::nullopt;
  }

  static RewriteRule rule(const Pattern& from) {
    return {from, [](const Match& m) { return read(m.graph(), m.root()).has_value(); },
            [](ComputationGraph& graph, const Match& m) {
              const Reading reading = *read(graph, m.root());
              Op operation = *graph.get_if<Op>(m.root());
              op::Attention& o = forward(operation);
              o.causal = true;
              o.window = reading.window;
              o.has_mask = reading.mask != kNoNode;
              std::vector<NodeId> operands = graph.node(m.root()).inputs;
              if (o.has_mask) {
                operands[kMaskOperand] = reading.mask;
              } else {
                operands.erase(operands.begin() + kMaskOperand);
              }
              return graph.add(operation, operands);
            }};
  }
};

}  // namespace

PassPtr attention() {
  const Var a, b, c, d, e, f, g;
  return std::make_unique<RewritePass>(
      "attention",
      std::vector<RewriteRule>{
          rule(Masking::kAdded), rule(Masking::kSeen), rule(Masking::kHidden), rule(Masking::kNone),
          CausalRule<op::Attention>::rule(operation<op::Attention>(a, b, c, d)),
          CausalRule<op::AttentionBackward>::rule(
              operation<op::AttentionBackward>(a, b, c, d, e, f, g))});
}

}  // namespace metal_candle::passes
