// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Which rows count as regressions.
#include "bench/baseline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metal_candle/core/error.h"
#include "tests/support/message_of.h"

namespace metal_candle::bench {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

Row make_row(const std::string& name, const std::string& unit, double value, double reference,
             const std::string& reference_name = "peer") {
  Row row{.name = name, .value = value, .unit = unit, .reference = reference};
  row.reference_name = reference_name;
  return row;
}

std::string json_of(const std::vector<Row>& rows) {
  Table table("", /*quiet=*/true);
  for (const Row& row : rows) table.add(row);
  return table.to_json();
}

TEST(Baseline, RatiosCountNotTimes) {
  const std::string before =
      json_of({make_row("time", "us", 10, 20), make_row("rate", "GB/s", 30, 10),
               make_row("slower machine", "us", 10, 20)});
  const auto report = compare_with_baseline(
      {make_row("time", "us", 12, 20),    // 2 times as good became 1.67: less by 17 %.
       make_row("rate", "GB/s", 25, 10),  // 3 became 2.5: less by 17 %.
       make_row("slower machine", "us", 100, 200), make_row("new", "us", 1, 1)},
      before, "f");
  EXPECT_EQ(report.compared, 3u);
  ASSERT_EQ(report.regressions.size(), 2u);
  EXPECT_EQ(report.regressions[0].row, "time");
  EXPECT_DOUBLE_EQ(report.regressions[0].before, 2);
  EXPECT_DOUBLE_EQ(report.regressions[0].now, 20.0 / 12);
  EXPECT_EQ(report.regressions[1].row, "rate");
  EXPECT_DOUBLE_EQ(report.regressions[1].before, 3);
  EXPECT_DOUBLE_EQ(report.regressions[1].now, 2.5);
}

TEST(Baseline, FifteenPercentAreAllowedAndGainsAreNoRegressions) {
  const std::string before =
      json_of({make_row("a", "us", 85, 100), make_row("b", "token/s", 100, 50)});
  const auto report = compare_with_baseline(
      {make_row("a", "us", 99, 100), make_row("b", "token/s", 200, 50)}, before, "f");
  EXPECT_TRUE(report.regressions.empty());
}

// The best peer of one run need not be that of the other.
TEST(Baseline, ThePeerInCommonIsTheReference) {
  Row before = make_row("a", "us", 10, 20, "fast");
  before.peers = {{"fast", 20}, {"slow", 40}};
  Row now = make_row("a", "us", 10, 15, "new");
  now.peers = {{"new", 15}, {"slow", 30}};
  const auto report = compare_with_baseline({now}, json_of({before}), "f");
  ASSERT_EQ(report.regressions.size(), 1u);
  EXPECT_EQ(report.regressions[0].reference, "slow");
  EXPECT_DOUBLE_EQ(report.regressions[0].before, 4);
  EXPECT_DOUBLE_EQ(report.regressions[0].now, 3);
}

TEST(Baseline, WhatCannotBeComparedIsAnError) {
  const std::vector<Row> rows{make_row("a", "us", 1, 1)};
  for (const char* bad : {"", "{", "[1]", "[{\"name\": 3}]", "[{\"name\": \"a\"}]"}) {
    EXPECT_THAT(
        message_of<FormatError>([&] { (void)compare_with_baseline(rows, bad, "old.json"); }),
        HasSubstr("old.json: not what"))
        << bad;
  }
  for (const std::string& other : {json_of({}), json_of({make_row("b", "us", 1, 1)}),
                                   json_of({make_row("a", "us", 1, 1, "another peer")})}) {
    EXPECT_THAT(message_of<Error>([&] { (void)compare_with_baseline(rows, other, "old.json"); }),
                HasSubstr("old.json: has no row"));
  }
}

}  // namespace
}  // namespace metal_candle::bench
