// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The report: what it says, for runs of any length, and that it needs nothing from elsewhere.
#include "metal_candle/train/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <regex>

#include "metal_candle/train/chart.h"

namespace metal_candle::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ReportData run_of(std::int64_t reports) {
  ReportData data{.title = "A run"};
  for (std::int64_t i = 1; i <= reports; ++i) {
    TrainReport report;
    report.iteration = 10 * i;
    report.loss = 2 + 3.0 / static_cast<double>(i) + (i % 2 == 0 ? 0.1 : -0.1);
    report.learning_rate = 1e-5;
    report.gradient_norm = 0.5;
    report.tokens_per_second = 1200;
    report.trained_tokens = 12345 * i;
    report.seconds = 10.0 * static_cast<double>(i);
    report.peak_memory = 123456789;
    data.reports.push_back(report);
  }
  data.evaluations.push_back({.iteration = 0, .loss = 5.25, .perplexity = 190.566});
  if (reports > 1) {
    data.evaluations.push_back({.iteration = 10 * reports, .loss = 2.125, .perplexity = 8.373});
  }
  return data;
}

// Every element is closed, in order, but for those that HTML does not close.
void expect_well_formed(const std::string& html) {
  std::vector<std::string> open;
  const std::string body = html.substr(0, html.find("<script>"));
  for (std::size_t at = body.find('<'); at != std::string::npos; at = body.find('<', at + 1)) {
    const std::size_t end = body.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const bool closes = body[at + 1] == '/';
    const std::size_t first = at + (closes ? 2 : 1);
    if (std::isalpha(static_cast<unsigned char>(body[first])) == 0) continue;  // <!doctype
    const std::string name = body.substr(first, body.find_first_of(" \t\n/>", first) - first);
    if (name == "meta" || body[end - 1] == '/') continue;
    if (!closes) {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty()) << name;
    EXPECT_EQ(open.back(), name);
    open.pop_back();
  }
  EXPECT_THAT(open, ::testing::ElementsAre("html", "body"));  // The script is inside.
}

TEST(ReportTest, SaysWhatHappened) {
  ReportData data = run_of(20);
  data.subtitle = "on a Tuesday";
  data.settings = {{"rank", "8"}, {"model", "a<b>&\"c\""}};
  data.samples = {{"Define \x01 x.", "plain", "<script>alert(1)</script>"}};
  const std::string html = render_report(data);
  expect_well_formed(html);
  for (const char* text :
       {"<h1>A run</h1>", "on a Tuesday", "<b>2.125</b><small>from 5.250</small>",
        "<b>8.37</b><small>from 190.57</small>", "<b>200</b><small>246,900 tokens</small>",
        "<b>3m 20s</b><small>1,235 tokens/s</small>", "<b>123 MB</b>", "Learning rate",
        "Tokens per second", "Gradient norm", "<th>rank</th><td>8</td>",
        "<td>a&lt;b&gt;&amp;&quot;c&quot;</td>", "&lt;script&gt;alert(1)&lt;/script&gt;",
        "Define   x."}) {
    EXPECT_THAT(html, HasSubstr(text));
  }
}

TEST(ReportTest, NeedsNothingFromElsewhere) {
  const std::string html = render_report(run_of(20));
  EXPECT_THAT(html, AllOf(Not(HasSubstr("http")), Not(HasSubstr("src=")), Not(HasSubstr("href=")),
                          Not(HasSubstr("@import")), Not(HasSubstr("url("))));
}

TEST(ReportTest, OfNothing) {
  const std::string html = render_report({.title = "Nothing"});
  expect_well_formed(html);
  EXPECT_THAT(html, HasSubstr("Nothing has been trained yet."));
  EXPECT_THAT(html, Not(HasSubstr("<svg")));
}

TEST(ReportTest, OfOnePoint) {
  const std::string html = render_report(run_of(1));
  expect_well_formed(html);
  // A dot each for both losses, learning rate, speed and norm.
  const std::string circle = "<circle";
  std::size_t circles = 0;
  for (std::size_t at = html.find(circle); at != std::string::npos;
       at = html.find(circle, at + 1)) {
    ++circles;
  }
  EXPECT_EQ(circles, 5u);
  EXPECT_THAT(html, AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
}

TEST(ReportTest, OfAHundredThousandPoints) {
  ReportData data = run_of(100000);
  data.reports[54321].gradient_norm = 99;  // Must not vanish.
  data.reports[777].loss = kNan;
  const std::string html = render_report(data);
  expect_well_formed(html);
  EXPECT_LT(html.size(), 150000u);
  EXPECT_THAT(html, HasSubstr("smoothed"));
  EXPECT_THAT(html, HasSubstr(">100</text>"));  // The scale of the norm.
  EXPECT_THAT(html, Not(HasSubstr("nan")));
}

TEST(ChartTest, DownsamplingKeepsExtremesAndEnds) {
  std::vector<ChartPoint> points;
  for (int i = 0; i < 10000; ++i) points.push_back({static_cast<double>(i), std::sin(i * 0.01)});
  points[1234].y = 50;
  points[5678].y = -50;
  points[3333].y = kNan;
  const std::vector<ChartPoint> kept = downsample(points, 100);
  EXPECT_LE(kept.size(), 500u);
  EXPECT_GE(kept.size(), 100u);
  EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end(),
                             [](const auto& a, const auto& b) { return a.x < b.x; }));
  const auto has = [&](double x) {
    return std::any_of(kept.begin(), kept.end(), [&](const auto& p) { return p.x == x; });
  };
  for (const double x : {0.0, 1234.0, 5678.0, 3333.0, 9999.0}) EXPECT_TRUE(has(x)) << x;
  EXPECT_EQ(downsample({points.begin(), points.begin() + 300}, 100).size(), 300u);
}

TEST(ChartTest, SmoothingTakesMeansAndLeavesGaps) {
  std::vector<ChartPoint> points;
  for (int i = 0; i < 100; ++i) points.push_back({static_cast<double>(i), i % 2 == 0 ? 1.0 : 3.0});
  points[50].y = kNan;
  const std::vector<ChartPoint> smoothed = smooth(points, 20);
  ASSERT_EQ(smoothed.size(), 100u);
  EXPECT_TRUE(std::isnan(smoothed[50].y));
  for (const std::size_t i : {0u, 10u, 49u, 99u}) EXPECT_NEAR(smoothed[i].y, 2, 0.4) << i;
  // A straight line stays one.
  for (auto& point : points) point.y = 3 * point.x;
  for (const auto& point : smooth(points, 10)) {
    EXPECT_NEAR(point.y, 3 * point.x, point.x > 5 && point.x < 94 ? 1e-9 : 10);
  }
}

TEST(ChartTest, ScalesHaveRoundNumbers) {
  const auto labels = [](std::vector<double> values) {
    Chart chart{.title = "t", .series = {{"s", "s", {}, false, false}}};
    for (std::size_t i = 0; i < values.size(); ++i) {
      chart.series[0].points.push_back({static_cast<double>(i), values[i]});
    }
    const std::string svg = render_chart(chart);
    const std::regex label("text-anchor=\"end\"[^>]*>([^<]*)<");
    std::vector<std::string> found;
    for (std::sregex_iterator it(svg.begin(), svg.end(), label), end; it != end; ++it) {
      found.push_back((*it)[1]);
    }
    return found;
  };
  using ::testing::ElementsAre;
  EXPECT_THAT(labels({0, 1}), ElementsAre("0", "0.2", "0.4", "0.6", "0.8", "1.0"));
  EXPECT_THAT(labels({-1, 2}), ElementsAre("-1.0", "-0.5", "0", "0.5", "1.0", "1.5", "2.0"));
  EXPECT_THAT(labels({1e-5, 3e-5}),
              ElementsAre("1.0e-05", "1.5e-05", "2.0e-05", "2.5e-05", "3.0e-05"));
  EXPECT_THAT(labels({100, 700}), ElementsAre("100", "200", "300", "400", "500", "600", "700"));
  EXPECT_THAT(labels({0}), ElementsAre("-1.0", "-0.5", "0", "0.5", "1.0"));
}

}  // namespace
}  // namespace metal_candle::testing
