// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A profile as tables.
#include "metal_candle/execute/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

namespace metal_candle {
namespace {

constexpr std::size_t kMostShapes = 12;
constexpr std::size_t kShapesWidth = 86;

struct Line {
  std::string label;
  std::uint64_t calls = 0;
  double seconds = 0, bytes = 0, flops = 0;
  double least_seconds = 0;  // That the machine's limits allow; 0 where they are not known.

  void add(const Profile::Step& step, const MachineLimits* limits) {
    const auto count = static_cast<double>(step.calls);
    calls += step.calls;
    seconds += step.seconds;
    bytes += count * step.bytes;
    flops += count * step.flops;
    if (limits != nullptr) {
      least_seconds += count * limits->least_seconds(step.bytes, step.flops, step.dtype);
    }
  }
};

std::string readable_bytes(double bytes) {
  if (bytes < 1e6) return fmt::format("{:.0f} kB", bytes * 1e-3);
  return bytes < 1e9 ? fmt::format("{:.1f} MB", bytes * 1e-6)
                     : fmt::format("{:.2f} GB", bytes * 1e-9);
}

void print_header(std::string& text, const char* what) {
  fmt::format_to(std::back_inserter(text), "\n{:<26}{:>10}{:>11}{:>11}{:>8}{:>9}{:>11}{:>8}\n",
                 what, "calls", "total, ms", "mean, us", "share", "GB/s", "GFLOP/s", "limit");
}

void print_line(std::string& text, const Line& line, double all_seconds) {
  const double seconds = std::max(line.seconds, 1e-12);
  fmt::format_to(std::back_inserter(text),
                 "{:<26}{:>10}{:>11.2f}{:>11.2f}{:>6.1f} %{:>9.1f}{:>11.1f}{:>8}", line.label,
                 line.calls, line.seconds * 1e3,
                 line.seconds * 1e6 / static_cast<double>(line.calls),
                 100 * line.seconds / std::max(all_seconds, 1e-12), line.bytes / seconds * 1e-9,
                 line.flops / seconds * 1e-9,
                 line.least_seconds > 0 ? fmt::format("{:.2f}", line.least_seconds / seconds)
                                        : std::string("-"));
}

// Eighths of a block, by the peak.
std::string sparkline(const std::vector<std::size_t>& values, std::size_t peak) {
  static constexpr const char* kBlocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string line;
  for (const std::size_t value : values) {
    const double part = peak == 0 ? 0 : static_cast<double>(value) / static_cast<double>(peak);
    line += kBlocks[std::clamp(static_cast<int>(std::lround(part * 8)), value > 0 ? 1 : 0, 8)];
  }
  return line;
}

// By operation, and then the costliest shapes.
void print_steps(std::string& text, const Profile& profile,
                 const std::function<const MachineLimits*(Device)>& limits) {
  std::map<std::string, Line> by_name;
  double all_seconds = 0;
  const bool several = std::ranges::any_of(profile.steps, [&](const Profile::Step& step) {
    return !(step.device == profile.steps[0].device);
  });
  for (const Profile::Step& step : profile.steps) {
    const std::string label =
        several ? fmt::format("{} ({})", step.name, metal_candle::to_string(step.device))
                : step.name;
    Line& line = by_name[label];
    line.label = label;
    line.add(step, limits(step.device));
    all_seconds += step.seconds;
  }
  std::vector<Line> lines;
  for (const auto& [name, line] : by_name) lines.push_back(line);
  std::ranges::sort(lines, [](const Line& a, const Line& b) { return a.seconds > b.seconds; });
  Line total;
  total.label = "all";
  print_header(text, "operation");
  for (const Line& line : lines) {
    print_line(text, line, all_seconds);
    text += '\n';
    total.calls += line.calls;
    total.seconds += line.seconds;
    total.bytes += line.bytes;
    total.flops += line.flops;
    total.least_seconds += line.least_seconds;
  }
  if (total.calls == 0) {
    text += "no step ran\n";
    return;
  }
  print_line(text, total, all_seconds);
  text += '\n';
  print_header(text, "costliest shapes");
  for (std::size_t i = 0; i < std::min(kMostShapes, profile.steps.size()); ++i) {
    const Profile::Step& step = profile.steps[i];
    Line line;
    line.label = step.name;
    line.add(step, limits(step.device));
    print_line(text, line, all_seconds);
    std::string shapes = step.shapes;
    if (shapes.size() > kShapesWidth) shapes = "..." + shapes.substr(shapes.size() - kShapesWidth);
    fmt::format_to(std::back_inserter(text), "\n  {}\n", shapes);
  }
}

void print_times(std::string& text, const Profile& profile) {
  const auto out = std::back_inserter(text);
  const auto of_all = [&](double seconds) {
    return 100 * seconds / std::max(profile.seconds, 1e-12);
  };
  fmt::format_to(out, "\n{:<26}{:>10}{:>11}{:>11}{:>8}\n", "host threads", "times", "total, ms",
                 "mean, us", "of time");
  for (int i = 0; i < kNumHostPhases; ++i) {
    const Profile::Phase& phase = profile.phases[static_cast<std::size_t>(i)];
    fmt::format_to(out, "{:<26}{:>10}{:>11.2f}{:>11.2f}{:>6.1f} %\n",
                   name(static_cast<HostPhase>(i)), phase.count, phase.seconds * 1e3,
                   phase.count == 0 ? 0 : phase.seconds * 1e6 / static_cast<double>(phase.count),
                   of_all(phase.seconds));
  }
  fmt::format_to(out, "\n{:<26}{:>10}{:>11}{:>11}{:>8}\n", "queues", "steps", "busy, ms",
                 "idle, ms", "idle");
  for (const Profile::Queue& queue : profile.queues) {
    const double idle = std::max(0.0, profile.seconds - queue.busy_seconds);
    fmt::format_to(out, "{:<26}{:>10}{:>11.2f}{:>11.2f}{:>6.1f} %\n",
                   fmt::format("{} queue {}", metal_candle::to_string(queue.device), queue.index),
                   queue.steps, queue.busy_seconds * 1e3, idle * 1e3, of_all(idle));
  }
  if (profile.ranges.empty()) return;
  fmt::format_to(out, "\n{:<26}{:>10}{:>11}{:>11}{:>8}\n", "ranges", "times", "total, ms",
                 "mean, ms", "of time");
  for (const Profile::Range& range : profile.ranges) {
    fmt::format_to(out, "{:<26}{:>10}{:>11.2f}{:>11.3f}{:>6.1f} %\n", range.name, range.count,
                   range.seconds * 1e3, range.seconds * 1e3 / static_cast<double>(range.count),
                   of_all(range.seconds));
  }
}

void print_memory(std::string& text, const Profile& profile) {
  const auto out = std::back_inserter(text);
  for (const Profile::Memory& memory : profile.memory) {
    fmt::format_to(out, "\nmemory of {}: {} now, {} at the peak; {:.3g} s a column\n|{}|\n",
                   metal_candle::to_string(memory.device),
                   readable_bytes(static_cast<double>(memory.now)),
                   readable_bytes(static_cast<double>(memory.peak)), memory.seconds_a_bucket,
                   sparkline(memory.peaks, memory.peak));
  }
}

}  // namespace

std::string Profile::to_string(const std::function<const MachineLimits*(Device)>& limits) const {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "profile of {:.3f} s; recording took about {:.2f} ms of it ({:.2f} %)\n",
                 seconds, overhead_seconds * 1e3,
                 100 * overhead_seconds / std::max(seconds, 1e-12));
  print_steps(text, *this, limits);
  print_times(text, *this);
  print_memory(text, *this);
  text += "\n" + counters.to_string();
  return text;
}

}  // namespace metal_candle
