// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See waves.h. First the graph of what depends on what, then how early and how late each step can
// be, then wave by wave: what can wait no longer, and of what could run already the same kinds.
#include "metal_candle/execute/waves.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <unordered_map>
#include <utility>

namespace metal_candle {
namespace {

using Step = std::int32_t;

// Who last wrote each byte of a space, and who has read it since: segments without overlap.
class History {
 public:
  template <typename Fn>
  void read(std::size_t begin, std::size_t end, Step step, Fn depends_on) {
    cover(begin, end, [&](Segment& segment) {
      if (segment.writer >= 0) depends_on(segment.writer);
      if (segment.readers.empty() || segment.readers.back() != step) {
        segment.readers.push_back(step);
      }
    });
  }
  template <typename Fn>
  void write(std::size_t begin, std::size_t end, Step step, Fn depends_on) {
    cover(begin, end, [&](Segment& segment) {
      if (segment.writer >= 0) depends_on(segment.writer);
      for (const Step reader : segment.readers) depends_on(reader);
      segment.writer = step;
      segment.readers.clear();
    });
  }

 private:
  struct Segment {
    std::size_t end;
    Step writer = -1;
    std::vector<Step> readers = {};
  };
  using Segments = std::map<std::size_t, Segment>;  // By where they begin.

  // A boundary at `position`, if a segment spans it.
  void split(std::size_t position) {
    const auto after = segments_.upper_bound(position);
    if (after == segments_.begin()) return;
    const auto spanning = std::prev(after);
    if (spanning->first == position || spanning->second.end <= position) return;
    Segment rest = spanning->second;
    spanning->second.end = position;
    segments_.emplace_hint(after, position, std::move(rest));
  }

  template <typename Fn>
  void cover(std::size_t begin, std::size_t end, Fn visit) {
    if (begin >= end) return;
    split(begin);
    split(end);
    auto it = segments_.lower_bound(begin);
    for (std::size_t at = begin; at < end; ++it) {
      const std::size_t next = it == segments_.end() ? end : std::min(end, it->first);
      if (next > at) it = segments_.emplace_hint(it, at, Segment{next});
      visit(it->second);
      at = it->second.end;
    }
  }

  Segments segments_;
};

struct Dependences {
  std::vector<std::vector<Step>> users;  // By step, each once.
  std::vector<std::int32_t> count;       // Of steps that it waits for.
};

Dependences dependences_of(std::span<const StepAccess> steps) {
  std::map<std::int32_t, History> spaces;
  Dependences all{std::vector<std::vector<Step>>(steps.size()),
                  std::vector<std::int32_t>(steps.size(), 0)};
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const auto step = static_cast<Step>(s);
    const auto depends_on = [&](Step earlier) {
      std::vector<Step>& users = all.users[static_cast<std::size_t>(earlier)];
      if (earlier == step || (!users.empty() && users.back() == step)) return;
      users.push_back(step);
      ++all.count[s];
    };
    for (const MemoryRange& r : steps[s].reads) {
      spaces[r.space].read(r.begin, r.end, step, depends_on);
    }
    for (const MemoryRange& w : steps[s].writes) {
      spaces[w.space].write(w.begin, w.end, step, depends_on);
    }
  }
  return all;
}

}  // namespace

std::vector<std::int32_t> waves_of(std::span<const StepAccess> steps) {
  const std::size_t count = steps.size();
  Dependences dependences = dependences_of(steps);
  std::vector<std::int32_t> earliest(count, 0);
  std::int32_t last_wave = 0;
  for (std::size_t s = 0; s < count; ++s) {
    last_wave = std::max(last_wave, earliest[s]);
    for (const Step user : dependences.users[s]) {
      std::int32_t& theirs = earliest[static_cast<std::size_t>(user)];
      theirs = std::max(theirs, earliest[s] + 1);
    }
  }
  std::vector<std::int32_t> latest(count, last_wave);
  std::vector<std::vector<Step>> due(count == 0 ? 0 : static_cast<std::size_t>(last_wave) + 1);
  for (std::size_t s = count; s-- > 0;) {
    for (const Step user : dependences.users[s]) {
      latest[s] = std::min(latest[s], latest[static_cast<std::size_t>(user)] - 1);
    }
    due[static_cast<std::size_t>(latest[s])].push_back(static_cast<Step>(s));
  }

  std::vector<std::int32_t> waves(count, -1);
  std::unordered_map<std::uint64_t, std::vector<Step>> ready;  // By kind.
  const auto make_ready = [&](Step step) {
    ready[steps[static_cast<std::size_t>(step)].kind].push_back(step);
  };
  for (std::size_t s = 0; s < count; ++s) {
    if (dependences.count[s] == 0) make_ready(static_cast<Step>(s));
  }
  std::vector<Step> wave;
  for (std::size_t w = 0; w < due.size(); ++w) {
    wave.clear();
    const auto run = [&](Step step) {
      std::int32_t& mine = waves[static_cast<std::size_t>(step)];
      if (mine >= 0) return;
      mine = static_cast<std::int32_t>(w);
      wave.push_back(step);
    };
    for (const Step step : due[w]) {
      if (waves[static_cast<std::size_t>(step)] >= 0) continue;
      std::vector<Step>& alike = ready[steps[static_cast<std::size_t>(step)].kind];
      for (const Step other : alike) run(other);
      alike.clear();
    }
    for (const Step step : wave) {
      for (const Step user : dependences.users[static_cast<std::size_t>(step)]) {
        if (--dependences.count[static_cast<std::size_t>(user)] == 0) make_ready(user);
      }
    }
  }
  return waves;
}

}  // namespace metal_candle
