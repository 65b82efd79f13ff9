// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading masks: whether one that the graph computes from positions says what causal attention
// says, however it is spelt (tril, triu, comparisons of aranges, where, arithmetic with constants).
#pragma once

#include <cstdint>
#include <optional>

#include "metal_candle/optimize/constants.h"

namespace metal_candle::passes {

/// Whether adding a constant, or having it as a score, hides a key: its weight is then 0 next to
/// any key that is seen. -infinity does, and so does what is usually written in its place.
[[nodiscard]] bool hides(double value, DType dtype);

/// If `mask` [.., queries, keys] says which keys causal attention sees, the window of that (0: all
/// keys before). A bool mask is true for what is seen, or for what is hidden if `true_is_hidden`; a
/// floating one is added to the scores. Unless it hides with -infinity, every query must see a key:
/// otherwise all of them count. Looks at a bounded number of nodes.
[[nodiscard]] std::optional<int> causal_window(const ComputationGraph& graph, NodeId mask,
                                               std::int64_t queries, std::int64_t keys,
                                               bool true_is_hidden = false);

}  // namespace metal_candle::passes
