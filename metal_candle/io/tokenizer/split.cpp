// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/split.h"

#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/io/quote.h"

namespace metal_candle::tokenizers {
namespace {

struct Part {
  Range range;
  bool is_match;
};

// All of `whole`, in parts that are matches and parts that are not.
std::vector<Part> parts_of(const Range& whole, const std::vector<Range>& matches, bool invert) {
  std::vector<Part> parts;
  parts.reserve(matches.size() * 2 + 1);
  std::size_t end = whole.begin;
  for (const Range& match : matches) {
    if (match.begin > end) parts.push_back({{end, match.begin}, invert});
    parts.push_back({match, !invert});
    end = match.end;
  }
  if (whole.end > end) parts.push_back({{end, whole.end}, invert});
  return parts;
}

// Whether a part joins the piece before it, given whether the part before it is a match. For
// MergedWithNext, before means after.
bool joins(SplitBehavior behavior, bool is_match, bool previous_is_match) {
  if (behavior == SplitBehavior::kContiguous) return is_match == previous_is_match;
  return is_match && !previous_is_match;
}

void append_merged(std::vector<Part> parts, SplitBehavior behavior, std::vector<Range>& pieces) {
  const bool backwards = behavior == SplitBehavior::kMergedWithNext;
  if (backwards) std::ranges::reverse(parts);
  const std::size_t size_before = pieces.size();
  bool previous_is_match = false;
  for (const Part& part : parts) {
    if (pieces.size() > size_before && joins(behavior, part.is_match, previous_is_match)) {
      Range& piece = pieces.back();
      piece = {std::min(piece.begin, part.range.begin), std::max(piece.end, part.range.end)};
    } else {
      pieces.push_back(part.range);
    }
    previous_is_match = part.is_match;
  }
  if (backwards) {
    std::reverse(pieces.begin() + static_cast<std::ptrdiff_t>(size_before), pieces.end());
  }
}

}  // namespace

SplitBehavior read_split_behavior(const JsonField& json) {
  const std::string_view name = json.string();
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  json.fail(
      fmt::format("{} is no behavior; these are Isolated, Removed, MergedWithPrevious, "
                  "MergedWithNext and Contiguous",
                  quote(name)));
}

void split_at(const Range& whole, const std::vector<Range>& matches, SplitBehavior behavior,
              bool invert, std::vector<Range>& pieces) {
  const std::vector<Part> parts = parts_of(whole, matches, invert);
  const auto size_before = static_cast<std::ptrdiff_t>(pieces.size());
  if (behavior == SplitBehavior::kIsolated || behavior == SplitBehavior::kRemoved) {
    const bool remove = behavior == SplitBehavior::kRemoved;
    for (const Part& part : parts) {
      if (!(remove && part.is_match)) pieces.push_back(part.range);
    }
  } else {
    append_merged(parts, behavior, pieces);
  }
  const auto is_empty = [](const Range& piece) { return piece.begin == piece.end; };
  pieces.erase(std::remove_if(pieces.begin() + size_before, pieces.end(), is_empty), pieces.end());
}

}  // namespace metal_candle::tokenizers
