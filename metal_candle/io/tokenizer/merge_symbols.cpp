// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/merge_symbols.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <queue>

#include "metal_candle/core/error.h"
#include "metal_candle/io/tokenizer/vocabulary.h"

namespace metal_candle::tokenizers {
namespace {

constexpr Merge kNoMerge{UINT32_MAX, kNoToken};
// Up to here, looking at every pair each time is faster than keeping them in order.
constexpr std::size_t kShort = 48;

Merge merge_of(const MergeTable& merges, std::int32_t left, std::int32_t right) {
  const Merge* merge = merges.find(left, right);
  return merge == nullptr ? kNoMerge : *merge;
}

void merge_short(const MergeTable& merges, std::vector<std::int32_t>& symbols) {
  std::array<Merge, kShort> pairs;  // pairs[i] is that of symbols i and i + 1
  std::size_t count = symbols.size() - 1;
  for (std::size_t i = 0; i < count; ++i) {
    pairs[i] = merge_of(merges, symbols[i], symbols[i + 1]);
  }
  while (count > 0) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].id == kNoToken) break;
    symbols[best] = pairs[best].id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(pairs.begin() + best + 1, pairs.begin() + count, pairs.begin() + best);
    --count;
    if (best > 0) pairs[best - 1] = merge_of(merges, symbols[best - 1], symbols[best]);
    if (best < count) pairs[best] = merge_of(merges, symbols[best], symbols[best + 1]);
  }
}

// A pair that may merge, by the place of its left symbol. What became of that symbol or its
// neighbour since shows when the pair's turn comes.
struct Candidate {
  Merge merge;
  std::uint32_t left;

  // The priority queue gives the largest first.
  bool operator<(const Candidate& other) const {
    return merge.rank != other.merge.rank ? merge.rank > other.merge.rank : left > other.left;
  }
};

class LongWord {
 public:
  LongWord(const MergeTable& merges, std::vector<std::int32_t>& symbols)
      : merges_(merges), symbols_(symbols), before_(symbols.size()), after_(symbols.size()) {
    if (symbols.size() >= kNowhere) {
      throw Error(fmt::format("tokenizer: a word of {} characters is too long", symbols.size()));
    }
    std::vector<Candidate> candidates;
    for (std::uint32_t i = 0; i < symbols.size(); ++i) {
      before_[i] = i - 1;  // kNowhere for the first
      after_[i] = i + 1 < symbols.size() ? i + 1 : kNowhere;
      if (after_[i] == kNowhere) continue;
      const Merge merge = merge_of(merges_, symbols[i], symbols[i + 1]);
      if (merge.id != kNoToken) candidates.push_back({merge, i});
    }
    queue_ = std::priority_queue<Candidate>({}, std::move(candidates));
  }

  void run() {
    while (!queue_.empty()) {
      const Candidate candidate = queue_.top();
      queue_.pop();
      if (still_there(candidate)) apply(candidate);
    }
    std::erase(symbols_, kNoToken);
  }

 private:
  static constexpr std::uint32_t kNowhere = UINT32_MAX;

  // A symbol only grows to the right, so if the pair changed, its token is a longer one.
  [[nodiscard]] bool still_there(const Candidate& candidate) const {
    const std::uint32_t left = candidate.left;
    if (symbols_[left] == kNoToken || after_[left] == kNowhere) return false;
    return merge_of(merges_, symbols_[left], symbols_[after_[left]]).id == candidate.merge.id;
  }

  void apply(const Candidate& candidate) {
    const std::uint32_t left = candidate.left;
    const std::uint32_t right = after_[left];
    symbols_[left] = candidate.merge.id;
    symbols_[right] = kNoToken;
    after_[left] = after_[right];
    if (after_[left] != kNowhere) before_[after_[left]] = left;
    if (before_[left] != kNowhere) offer(before_[left]);
    if (after_[left] != kNowhere) offer(left);
  }

  void offer(std::uint32_t left) {
    const Merge merge = merge_of(merges_, symbols_[left], symbols_[after_[left]]);
    if (merge.id != kNoToken) queue_.push({merge, left});
  }

  const MergeTable& merges_;
  std::vector<std::int32_t>& symbols_;  // kNoToken where one was merged into another
  std::vector<std::uint32_t> before_;
  std::vector<std::uint32_t> after_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

void merge_symbols(const MergeTable& merges, std::vector<std::int32_t>& symbols) {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kShort) {
    merge_short(merges, symbols);
  } else {
    LongWord(merges, symbols).run();
  }
}

}  // namespace metal_candle::tokenizers
