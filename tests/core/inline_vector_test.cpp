// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// InlineVector against std::vector, and Recycled: that no element is lost or destroyed twice.
#include "metal_candle/core/inline_vector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "metal_candle/core/recycled.h"

namespace metal_candle {
namespace {

using ::testing::ElementsAre;

// Counts those alive.
struct Counted {
  explicit Counted(int of_value) : value(of_value) { ++alive; }
  Counted(const Counted& other) : value(other.value) { ++alive; }
  Counted(Counted&& other) noexcept : value(std::exchange(other.value, -1)) { ++alive; }
  Counted& operator=(const Counted&) = default;
  Counted& operator=(Counted&&) = default;
  ~Counted() { --alive; }

  int value;
  inline static int alive = 0;
};

std::vector<int> values(const InlineVector<Counted, 3>& vector) {
  std::vector<int> result;
  for (const Counted& element : vector) result.push_back(element.value);
  return result;
}

TEST(InlineVector, DoesWhatAVectorDoes) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    InlineVector<Counted, 3> ours;
    std::vector<int> theirs;
    for (int step = 0; step < 30; ++step) {
      const int next = static_cast<int>(random() % 1000);
      switch (random() % 6) {
        case 0:
          ours.truncate(ours.size() / 2);
          theirs.resize(theirs.size() / 2);
          break;
        case 1: {
          InlineVector<Counted, 3> copy = ours;
          EXPECT_EQ(values(copy), theirs);
          ours = std::move(copy);
          break;
        }
        case 2: {
          InlineVector<Counted, 3> taken = std::move(ours);
          EXPECT_TRUE(ours.empty());  // NOLINT(bugprone-use-after-move)
          ours = taken;
          break;
        }
        case 3:
          ours.reserve(random() % 8);
          break;
        default:
          ours.emplace_back(next);
          theirs.push_back(next);
      }
      ASSERT_EQ(values(ours), theirs);
      if (!theirs.empty()) {
        EXPECT_EQ(ours.front().value, theirs.front());
        EXPECT_EQ(ours.back().value, theirs.back());
      }
    }
  }
  EXPECT_EQ(Counted::alive, 0);
}

TEST(InlineVector, HoldsWhatCanOnlyBeMoved) {
  InlineVector<std::unique_ptr<std::string>, 1> strings;
  for (const char* text : {"a", "b", "c"}) strings.push_back(std::make_unique<std::string>(text));
  const InlineVector<std::unique_ptr<std::string>, 1> moved = std::move(strings);
  std::vector<std::string> texts;
  for (const auto& text : moved) texts.push_back(*text);
  EXPECT_THAT(texts, ElementsAre("a", "b", "c"));
}

TEST(InlineVector, IsMadeOfASpan) {
  const std::vector<int> many{1, 2, 3, 4, 5};
  const InlineVector<int, 2> ours{std::span<const int>(many)};
  EXPECT_THAT(ours, ElementsAre(1, 2, 3, 4, 5));
}

struct Object : Recycled<Object> {
  explicit Object(int of_value) : value(of_value) {}
  int value;
  char rest[100] = {};
};

TEST(Recycled, ObjectsAliveAreApart) {
  for (int round = 0; round < 3; ++round) {
    std::vector<std::unique_ptr<Object>> objects;
    std::set<Object*> addresses;
    for (int i = 0; i < 1000; ++i) {
      objects.push_back(std::make_unique<Object>(i));
      addresses.insert(objects.back().get());
    }
    EXPECT_EQ(addresses.size(), objects.size());
    for (int i = 0; i < 1000; ++i) EXPECT_EQ(objects[static_cast<std::size_t>(i)]->value, i);
  }
}

// Also of a thread that has ended, and after its end.
TEST(Recycled, ObjectsMayDieOnAnotherThread) {
  std::vector<std::unique_ptr<Object>> objects;
  std::thread([&] {
    for (int i = 0; i < 600; ++i) objects.push_back(std::make_unique<Object>(i));
    objects.resize(500);
  }).join();
  std::thread([&] { objects.resize(250); }).join();
  objects.clear();
  EXPECT_EQ(std::make_unique<Object>(3)->value, 3);
}

}  // namespace
}  // namespace metal_candle
