// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See waves.h.
#include "metal_candle/execute/waves.h"

#include <algorithm>
#include <iterator>
#include <map>

namespace metal_candle {
namespace {

// The waves that last wrote and read each byte of a space, as segments that touch without overlap.
class History {
 public:
  // The earliest wave that may do this.
  [[nodiscard]] std::int32_t earliest(std::size_t begin, std::size_t end, bool writes) const {
    std::int32_t wave = 0;
    for (auto it = first_at(begin); it != segments_.end() && it->first < end; ++it) {
      if (it->second.end <= begin) continue;
      wave = std::max(wave, it->second.written + 1);
      if (writes) wave = std::max(wave, it->second.read + 1);
    }
    return wave;
  }

  void read(std::size_t begin, std::size_t end, std::int32_t wave) {
    cover(begin, end, [&](Segment& segment) { segment.read = std::max(segment.read, wave); });
  }
  void write(std::size_t begin, std::size_t end, std::int32_t wave) {
    cover(begin, end, [&](Segment& segment) {
      segment.written = wave;
      segment.read = -1;
    });
  }

 private:
  struct Segment {
    std::size_t end;
    std::int32_t written = -1;
    std::int32_t read = -1;
  };
  using Segments = std::map<std::size_t, Segment>;  // By where they begin.

  [[nodiscard]] Segments::const_iterator first_at(std::size_t position) const {
    const auto after = segments_.upper_bound(position);
    return after == segments_.begin() ? after : std::prev(after);
  }

  // A boundary at `position`, if a segment spans it.
  void split(std::size_t position) {
    const auto after = segments_.upper_bound(position);
    if (after == segments_.begin()) return;
    const auto spanning = std::prev(after);
    if (spanning->first == position || spanning->second.end <= position) return;
    Segment rest = spanning->second;
    spanning->second.end = position;
    segments_.emplace_hint(after, position, rest);
  }

  template <typename Fn>
  void cover(std::size_t begin, std::size_t end, Fn mark) {
    if (begin >= end) return;
    split(begin);
    split(end);
    auto it = segments_.lower_bound(begin);
    for (std::size_t at = begin; at < end; ++it) {
      const std::size_t next = it == segments_.end() ? end : std::min(end, it->first);
      if (next > at) it = segments_.emplace_hint(it, at, Segment{next});
      mark(it->second);
      at = it->second.end;
    }
  }

  Segments segments_;
};

}  // namespace

std::vector<std::int32_t> waves_of(std::span<const MemoryAccess> steps) {
  std::map<std::int32_t, History> spaces;
  std::vector<std::int32_t> waves;
  waves.reserve(steps.size());
  for (const MemoryAccess& step : steps) {
    std::int32_t wave = 0;
    for (const MemoryRange& r : step.reads) {
      wave = std::max(wave, spaces[r.space].earliest(r.begin, r.end, false));
    }
    for (const MemoryRange& w : step.writes) {
      wave = std::max(wave, spaces[w.space].earliest(w.begin, w.end, true));
    }
    for (const MemoryRange& r : step.reads) spaces[r.space].read(r.begin, r.end, wave);
    for (const MemoryRange& w : step.writes) spaces[w.space].write(w.begin, w.end, wave);
    waves.push_back(wave);
  }
  return waves;
}

}  // namespace metal_candle
