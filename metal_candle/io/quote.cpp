// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See quote.h.
#include "metal_candle/io/quote.h"

#include <algorithm>
#include <numeric>

namespace metal_candle {
namespace {

constexpr std::size_t kLongest = 120;

bool ends_with_part(std::string_view text, std::string_view part) {
  return text.size() > part.size() && text.ends_with(part) &&
         text[text.size() - part.size() - 1] == '.';
}

// Levenshtein's distance.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (const char letter : a) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (letter == b[j] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::string quote(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto code = static_cast<unsigned char>(c);
    quoted += code < 0x20 || code == 0x7f ? '?' : c;
  }
  return quoted + (text.size() > kLongest ? "...'" : "'");
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  for (const std::string& candidate : candidates) {
    if (ends_with_part(candidate, name) || ends_with_part(name, candidate)) return candidate;
  }
  std::string nearest;
  std::size_t least = name.size() / 4 + 1;  // Further away is another word.
  if (name.size() > kLongest) return nearest;
  for (const std::string& candidate : candidates) {
    const std::size_t longer = std::max(name.size(), candidate.size());
    if (longer - std::min(name.size(), candidate.size()) > least) continue;
    const std::size_t d = distance(name, candidate);
    if (d < least || (d == least && nearest.empty())) {
      least = d;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace metal_candle
