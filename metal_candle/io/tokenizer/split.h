// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cutting a text at matches, and what becomes of these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"
#include "metal_candle/io/tokenizer/pattern.h"

namespace metal_candle::tokenizers {

/// What becomes of the matches: each a piece of its own; dropped; joined to the piece before or
/// after it; or joined to the matches next to it.
enum class SplitBehavior : std::uint8_t {
  kIsolated,
  kRemoved,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous
};

/// Reads the name, as "MergedWithNext". Throws FormatError.
[[nodiscard]] SplitBehavior read_split_behavior(const JsonField& json);

/// Cuts `whole` at `matches`, which lie in it in order, and appends the pieces that are not empty.
/// `invert`: what is between the matches counts as the matches.
void split_at(const Range& whole, const std::vector<Range>& matches, SplitBehavior behavior,
              bool invert, std::vector<Range>& pieces);

}  // namespace metal_candle::tokenizers
