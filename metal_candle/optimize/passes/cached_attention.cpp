// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// cached_attention, for a step of decoding, q [b, h, 1, d]:
//
//   keys'   = dynamic_slice_update(keys, rope(k, offset), offset)
//   values' = dynamic_slice_update(values, v, offset)
//   attention(rope(q, offset), keys', values', key_length)
//     -> cached_attention(q, k, v, keys, values, offset, frequencies, key_length)
//
// whose other outputs take the places of keys' and values', which may be outputs of the graph.
// Nothing else may read those, since it would have to wait for the attention, which may in turn
// wait for it.
#include <optional>

#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

using namespace pattern;

constexpr int kRowAxis = 2;

/// What of a step of decoding the pass looks at. New keys and values may be outputs of the graph,
/// so they are matched apart from what attends to them.
struct Parts {
  Var q, offset, frequencies, q_rope, key_length, attention;
  Var new_keys, keys, k, k_offset, k_frequencies, k_rope, keys_start;
  Var new_values, values, v, values_start;

  [[nodiscard]] Pattern attended() const {
    return operation<op::Pick>(
        operation<op::Attention>(operation<op::Rope>(q, offset, frequencies).as(q_rope), new_keys,
                                 new_values, key_length)
            .as(attention));
  }
  [[nodiscard]] Pattern key_update() const {
    return operation<op::DynamicSliceUpdate>(
        keys, operation<op::Rope>(k, k_offset, k_frequencies).as(k_rope), keys_start);
  }
  [[nodiscard]] Pattern value_update() const {
    return operation<op::DynamicSliceUpdate>(values, v, values_start);
  }
};

/// Matches of the three patterns.
struct Step {
  Match attended, keys, values;
};

NodeId behind_reshapes(const ComputationGraph& graph, NodeId id) {
  while (graph.get_if<op::Reshape>(id) != nullptr) id = graph.node(id).inputs[0];
  return id;
}

/// Whether one row of every head of the cache is replaced, which only `attended` reads then.
bool is_update(const Match& attended, const Var& cache, const Match& update, const Var& rows) {
  Shape row = attended.shape(cache);
  row[kRowAxis] = 1;
  return attended.get_if<op::DynamicSliceUpdate>(cache)->axes == Axes{kRowAxis} &&
         update.shape(rows) == row && attended.graph().node(attended[cache]).users.size() == 1;
}

std::optional<Step> find_step(const Parts& p, const Match& attended) {
  const ComputationGraph& graph = attended.graph();
  const auto* attention = attended.get_if<op::Attention>(p.attention);
  if (!attention->has_key_length || attention->has_mask) return std::nullopt;
  if (attended.shape(p.q)[kRowAxis] != 1) return std::nullopt;
  const auto keys = match(graph, attended[p.new_keys], p.key_update());
  const auto values = match(graph, attended[p.new_values], p.value_update());
  if (!keys || !values || !is_update(attended, p.new_keys, *keys, p.k) ||
      !is_update(attended, p.new_values, *values, p.v)) {
    return std::nullopt;
  }
  // One offset, however it is shaped, and one rotation.
  const NodeId offset = behind_reshapes(graph, attended[p.offset]);
  const bool together = num_elements(attended.shape(p.offset)) == 1 &&
                        behind_reshapes(graph, (*keys)[p.k_offset]) == offset &&
                        behind_reshapes(graph, (*keys)[p.keys_start]) == offset &&
                        behind_reshapes(graph, (*values)[p.values_start]) == offset &&
                        (*keys)[p.k_frequencies] == attended[p.frequencies] &&
                        *keys->get_if<op::Rope>(p.k_rope) == *attended.get_if<op::Rope>(p.q_rope);
  if (!together) return std::nullopt;
  return Step{attended, *keys, *values};
}

NodeId fuse(const Parts& p, ComputationGraph& graph, const Match& attended) {
  const Step step = *find_step(p, attended);
  const op::CachedAttention fused{*attended.get_if<op::Rope>(p.q_rope),
                                  *attended.get_if<op::Attention>(p.attention)};
  const TensorSpec result = attended.root_spec();
  const TensorSpec keys = attended.spec(p.new_keys), values = attended.spec(p.new_values);
  const NodeId offset = as_shape(graph, attended[p.offset], {});
  const NodeId all = graph.add(
      fused, {attended[p.q], step.keys[p.k], step.values[p.v], step.keys[p.keys],
              step.values[p.values], offset, attended[p.frequencies], attended[p.key_length]});
  graph.replace(attended[p.new_keys], pick(graph, all, 1, keys));
  graph.replace(attended[p.new_values], pick(graph, all, 2, values));
  return pick(graph, all, 0, result);
}

}  // namespace

PassPtr cached_attention() {
  const Parts parts;
  const RewriteRule rule{
      parts.attended(),
      [=](const Match& m) {
        return m.graph().get_if<op::Pick>(m.root())->index == 0 && find_step(parts, m).has_value();
      },
      [=](ComputationGraph& graph, const Match& m) { return fuse(parts, graph, m); }};
  return std::make_unique<RewritePass>("cached_attention", std::vector<RewriteRule>{rule});
}

}  // namespace metal_candle::passes
