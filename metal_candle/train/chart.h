// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Line charts as SVG, coloured by the style sheet of the page they are put into.
#pragma once

#include <string>
#include <vector>

namespace metal_candle {

struct ChartPoint {
  double x = 0;
  double y = 0;  // Not finite: a gap.
};

struct ChartSeries {
  std::string name;
  std::string css_class;           // Sets the colour.
  std::vector<ChartPoint> points;  // By x.
  bool marked = false;             // A dot at each point.
  bool faint = false;              // Behind the others, and not in the legend.
};

struct Chart {
  std::string title;
  int width = 960;  // CSS pixels at full size; the chart shrinks with its container.
  int height = 300;
  bool from_zero = false;  // The vertical axis begins at 0.
  std::vector<ChartSeries> series = {};
};

/// At most about 4 * buckets of the points: in each of `buckets` stretches of x the first, the
/// lowest, the highest and the last, and one for each run of gaps.
[[nodiscard]] std::vector<ChartPoint> downsample(const std::vector<ChartPoint>& points,
                                                 std::size_t buckets);

/// The mean of the points around each, `window` in all; gaps do not count.
[[nodiscard]] std::vector<ChartPoint> smooth(const std::vector<ChartPoint>& points,
                                             std::size_t window);

/// A <figure>. A series without a finite point is left out; without any, a note says so.
[[nodiscard]] std::string render_chart(const Chart& chart);

/// Text with what is special in HTML escaped, and control characters replaced.
[[nodiscard]] std::string escape_html(const std::string& text);

}  // namespace metal_candle
