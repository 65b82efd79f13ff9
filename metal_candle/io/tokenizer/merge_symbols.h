// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "metal_candle/io/tokenizer/merge_table.h"

namespace metal_candle::tokenizers {

/// Merges neighbours for as long as any merge: the pair of lowest rank first, of several such the
/// leftmost. O(n log n) for n symbols.
void merge_symbols(const MergeTable& merges, std::vector<std::int32_t>& symbols);

}  // namespace metal_candle::tokenizers
