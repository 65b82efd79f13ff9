// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See chart.h.
#include "metal_candle/train/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace metal_candle {
namespace {

constexpr int kLeft = 58;  // Room for the numbers of the axes.
constexpr int kRight = 24;
constexpr int kTop = 10;
constexpr int kBottom = 28;

struct Interval {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  [[nodiscard]] bool empty() const { return low > high; }
};

// 1, 2 or 5 times a power of ten, so that `count` steps or a few less cover the length.
double nice_step(double length, int count) {
  const double rough = length / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power * (1 + 1e-9)) return factor * power;
  }
  return 10 * power;
}

/// An axis: where values are, and the numbers written on it.
struct Axis {
  double low, high;
  double step;
  double from, to;  // Pixels.

  [[nodiscard]] double at(double value) const {
    return from + (value - low) / (high - low) * (to - from);
  }
  [[nodiscard]] std::vector<double> ticks() const {
    std::vector<double> values;
    const double first = std::ceil(low / step - 1e-6);
    const double last = std::floor(high / step + 1e-6);
    const auto count = static_cast<std::int64_t>(last - first) + 1;
    for (std::int64_t i = 0; i < count; ++i) {
      values.push_back((first + static_cast<double>(i)) * step + 0.0);  // Not -0.
    }
    return values;
  }
  [[nodiscard]] std::string label(double value) const {
    if (std::abs(value) < step * 1e-6) return "0";
    const double largest = std::max(std::abs(low), std::abs(high));
    if (largest < 1e-3 || largest >= 1e7) {
      const auto exponent = [](double x) { return static_cast<int>(std::floor(std::log10(x))); };
      return fmt::format("{:.{}e}", value, std::max(0, exponent(largest) - exponent(step)));
    }
    return fmt::format("{:.{}f}", value,
                       std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9))));
  }
};

Axis vertical_axis(Interval range, bool from_zero, int height) {
  if (from_zero) range.include(0);
  if (range.high - range.low < 1e-9 * std::max(std::abs(range.high), 1e-30)) {
    const double around = range.high == 0 ? 1 : std::abs(range.high) * 0.1;
    if (!from_zero) range.low -= around;
    range.high += around;
  }
  const double step = nice_step(range.high - range.low, 6);
  return {std::floor(range.low / step + 1e-6) * step, std::ceil(range.high / step - 1e-6) * step,
          step, static_cast<double>(height - kBottom), kTop};
}

Axis horizontal_axis(Interval range, int width) {
  if (range.low == range.high) range = {range.low - 1, range.high + 1};
  // Iterations are whole.
  const double step = std::max(1.0, nice_step(range.high - range.low, width / 110));
  return {range.low, range.high, step, kLeft, static_cast<double>(width - kRight)};
}

std::string render_axes(const Axis& x, const Axis& y, int width, int height) {
  std::string svg;
  for (const double value : y.ticks()) {
    svg += fmt::format(
        R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text x="{}" y="{:.1f}" text-anchor="end" dy=".32em">{}</text>)",
        kLeft, width - kRight, y.at(value), y.at(value), kLeft - 8, y.at(value), y.label(value));
  }
  for (const double value : x.ticks()) {
    svg += fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{:.0f}</text>)", x.at(value),
                       height - 8, value);
  }
  return svg;
}

std::string render_series(const ChartSeries& series, const std::vector<ChartPoint>& points,
                          const Axis& x, const Axis& y) {
  std::string path;
  std::string dots;
  bool pen_down = false;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!std::isfinite(points[i].y)) {
      pen_down = false;
      continue;
    }
    const double px = x.at(points[i].x);
    const double py = y.at(points[i].y);
    path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", px, py);
    // A point with a gap on either side would not be seen.
    const bool alone = !pen_down && (i + 1 == points.size() || !std::isfinite(points[i + 1].y));
    if (series.marked || alone) {
      dots += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="3.2"/>)", px, py);
    }
    pen_down = true;
  }
  return fmt::format(R"(<g class="{}{}" data-name="{}"><path d="{}"/>{}</g>)", series.css_class,
                     series.faint ? " faint" : "", escape_html(series.name), path, dots);
}

std::string render_legend(const std::vector<const ChartSeries*>& shown) {
  std::string html;
  if (shown.size() < 2) return html;  // The title says it.
  for (const ChartSeries* series : shown) {
    if (series->faint) continue;
    html += fmt::format(R"(<span class="key {}">{}</span>)", series->css_class,
                        escape_html(series->name));
  }
  return html;
}

std::size_t finite_points(const ChartSeries& series) {
  return static_cast<std::size_t>(
      std::count_if(series.points.begin(), series.points.end(),
                    [](const ChartPoint& point) { return std::isfinite(point.y); }));
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default: {
        const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t';
        escaped += control || c == 0x7f ? ' ' : c;
      }
    }
  }
  return escaped;
}

std::vector<ChartPoint> downsample(const std::vector<ChartPoint>& points, std::size_t buckets) {
  if (points.size() <= 4 * buckets) return points;
  std::vector<ChartPoint> kept;
  const double first = points.front().x;
  const double width = (points.back().x - first) / static_cast<double>(buckets);
  std::size_t begin = 0;
  for (std::size_t bucket = 1; begin < points.size(); ++bucket) {
    const double limit = first + width * static_cast<double>(bucket);
    std::size_t end = begin;
    std::vector<std::size_t> chosen;
    std::size_t lowest = points.size();
    std::size_t highest = points.size();
    std::size_t last = points.size();
    bool in_gap = false;
    for (; end < points.size() && (bucket >= buckets || points[end].x < limit); ++end) {
      const double y = points[end].y;
      if (!std::isfinite(y)) {
        if (!in_gap && chosen.size() < 8) chosen.push_back(end);
        in_gap = true;
        continue;
      }
      in_gap = false;
      if (lowest == points.size()) chosen.push_back(lowest = highest = end);
      if (y < points[lowest].y) lowest = end;
      if (y > points[highest].y) highest = end;
      last = end;
    }
    if (lowest != points.size()) chosen.insert(chosen.end(), {lowest, highest, last});
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (const std::size_t i : chosen) kept.push_back(points[i]);
    begin = end;
  }
  return kept;
}

std::vector<ChartPoint> smooth(const std::vector<ChartPoint>& points, std::size_t window) {
  // Sums of all before, so that each mean costs the same whatever the window.
  std::vector<double> sums(points.size() + 1, 0);
  std::vector<std::size_t> counts(points.size() + 1, 0);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const bool finite = std::isfinite(points[i].y);
    sums[i + 1] = sums[i] + (finite ? points[i].y : 0);
    counts[i + 1] = counts[i] + (finite ? 1 : 0);
  }
  std::vector<ChartPoint> smoothed = points;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!std::isfinite(points[i].y)) continue;
    // Towards the ends the window shrinks, so that it leans to the one side less, but not so far
    // that they are rough.
    const std::size_t room = std::min(i, points.size() - 1 - i);
    const std::size_t reach = std::clamp(room, window / 8, window / 2);
    const std::size_t from = i - std::min(reach, i);
    const std::size_t to = std::min(i + reach + 1, points.size());
    smoothed[i].y = (sums[to] - sums[from]) / static_cast<double>(counts[to] - counts[from]);
  }
  return smoothed;
}

std::string render_chart(const Chart& chart) {
  Interval xs;
  Interval ys;
  std::vector<const ChartSeries*> shown;
  for (const ChartSeries& series : chart.series) {
    if (finite_points(series) == 0) continue;
    shown.push_back(&series);
    for (const ChartPoint& point : series.points) {
      if (!std::isfinite(point.y)) continue;
      xs.include(point.x);
      ys.include(point.y);
    }
  }
  std::string html = fmt::format("<figure><figcaption><b>{}</b>{}<output></output></figcaption>",
                                 escape_html(chart.title), render_legend(shown));
  if (shown.empty()) return html + "<p class=\"none\">No values.</p></figure>\n";
  const Axis x = horizontal_axis(xs, chart.width);
  const Axis y = vertical_axis(ys, chart.from_zero, chart.height);
  html += fmt::format(
      R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{} by iteration" data-axes="{} {} {} {} {} {} {} {}">)",
      chart.width, chart.height, escape_html(chart.title), x.low, x.high, x.from, x.to, y.low,
      y.high, y.from, y.to);
  html += render_axes(x, y, chart.width, chart.height);
  const auto buckets = static_cast<std::size_t>(chart.width / 2);
  for (const ChartSeries* series : shown) {
    html += render_series(*series, downsample(series->points, buckets), x, y);
  }
  return html + "</svg></figure>\n";
}

}  // namespace metal_candle
