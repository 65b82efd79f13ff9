// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Stop strings: what is shown, and when.
#include "metal_candle/generate/stop_text.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace metal_candle {
namespace {

using Strings = std::vector<std::string>;

// What each push shows, then what the end does.
Strings shown(const Strings& stops, const Strings& pieces) {
  StopText text(stops);
  Strings result;
  for (const std::string& piece : pieces) result.push_back(text.push(piece));
  result.push_back(text.finish());
  return result;
}

TEST(StopText, ShowsAllAtOnceWithoutStopStrings) {
  EXPECT_EQ(shown({}, {"a", "", "bc"}), (Strings{"a", "", "bc", ""}));
  EXPECT_EQ(shown({""}, {"a", "", "bc"}), (Strings{"a", "", "bc", ""}));
}

TEST(StopText, HoldsBackWhatMayBeginAStopString) {
  EXPECT_EQ(shown({"###"}, {"a#", "#b", "##"}), (Strings{"a", "##b", "", "##"}));
  EXPECT_EQ(shown({"\n\nQ:"}, {"A: 4\n", "\n", "Q", ": "}), (Strings{"A: 4", "", "", "", ""}));
}

TEST(StopText, StopsAcrossPiecesAndShowsNothingMore) {
  StopText text({"END"});
  EXPECT_EQ(text.push("the E"), "the ");
  EXPECT_FALSE(text.stopped());
  EXPECT_EQ(text.push("ND is near"), "");
  EXPECT_TRUE(text.stopped());
  EXPECT_EQ(text.push("more"), "");
  EXPECT_EQ(text.finish(), "");
}

TEST(StopText, WhatBeganAStopStringMayBeginAnotherWithin) {
  EXPECT_EQ(shown({"aab"}, {"a", "a", "a", "b", "c"}), (Strings{"", "", "a", "", "", ""}));
}

TEST(StopText, PiecesDoNotMatter) {
  // Few letters, so that stop strings overlap each other and themselves.
  std::mt19937 random(11);
  const auto letters = [&](std::size_t length) {
    std::string text;
    while (text.size() < length) text += "ab"[random() % 2];
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 2000; ++round) {
    const Strings stops = {letters(1 + random() % 5), letters(1 + random() % 5)};
    const std::string text = letters(12);
    StopText whole(stops), parts(stops);
    const std::string at_once = whole.push(text);
    std::string piecewise;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t n = 1 + random() % 4;
      piecewise += parts.push(text.substr(i, n));
      i += n;
      // Nothing shown is part of a stop string that the text so far ends in.
      for (const std::string& stop : stops) EXPECT_EQ(piecewise.find(stop), std::string::npos);
    }
    EXPECT_EQ(whole.stopped(), parts.stopped()) << text;
    stopped += whole.stopped();
    EXPECT_EQ(at_once + whole.finish(), piecewise + parts.finish())
        << text << " " << stops[0] << " " << stops[1];
  }
  EXPECT_GT(stopped, 500);
  EXPECT_LT(stopped, 1999);
}

}  // namespace
}  // namespace metal_candle
