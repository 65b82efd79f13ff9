// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See gaps.h.
#include "metal_candle/core/gaps.h"

#include <iterator>

namespace metal_candle {

void Gaps::add(std::size_t offset, std::size_t length) {
  const auto next = by_offset_.find(offset + length);
  if (next != by_offset_.end()) {
    length += next->second;
    remove(next);
  }
  if (const std::optional<std::size_t> before = take_before(offset)) {
    length += offset - *before;
    offset = *before;
  }
  insert(offset, length);
}

std::size_t Gaps::fit(std::size_t length) const {
  const auto gap = by_length_.lower_bound(length);
  return gap == by_length_.end() ? 0 : gap->first;
}

std::optional<std::size_t> Gaps::take(std::size_t length) {
  const auto fitting = by_length_.lower_bound(length);
  if (fitting == by_length_.end()) return {};
  const auto [available, offset] = *fitting;
  remove(by_offset_.find(offset));
  if (available > length) insert(offset + length, available - length);
  return offset;
}

std::optional<std::size_t> Gaps::take_before(std::size_t end) {
  const auto after = by_offset_.lower_bound(end);
  if (after == by_offset_.begin()) return {};
  const auto gap = std::prev(after);
  const auto [offset, length] = *gap;
  if (offset + length != end) return {};
  remove(gap);
  return offset;
}

void Gaps::insert(std::size_t offset, std::size_t length) {
  by_offset_.emplace(offset, length);
  by_length_.emplace(length, offset);
}

void Gaps::remove(ByOffset::iterator gap) {
  auto of_length = by_length_.lower_bound(gap->second);
  while (of_length->second != gap->first) ++of_length;
  by_length_.erase(of_length);
  by_offset_.erase(gap);
}

}  // namespace metal_candle
