// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Finding stop strings in text that comes in pieces.
#include "metal_candle/generate/stop_text.h"

#include <algorithm>
#include <utility>

namespace metal_candle {

StopText::StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopText::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  // The one that is complete first, so that it does not matter in which pieces the text comes.
  std::size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t found = held_.find(stop);
    if (found == std::string::npos || found + stop.size() > end) continue;
    begin = found + stop.size() < end ? found : std::min(begin, found);
    end = found + stop.size();
  }
  if (end != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, {}).substr(0, begin);
  }
  // The longest end of the text with which a stop string begins.
  std::size_t length = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > length; --n) {
      if (held_.ends_with(std::string_view(stop).substr(0, n))) length = n;
    }
  }
  std::string certain = held_.substr(0, held_.size() - length);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopText::finish() { return std::exchange(held_, {}); }

}  // namespace metal_candle
