// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Streams of random numbers: apart from each other, of the right distributions, and the same
// however they are evaluated.
#include "metal_candle/graph/ops/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

constexpr std::int64_t kCount = 1 << 16;

/// Mean of elements, and of products of a and b.
double mean_of(const std::vector<float>& values) {
  double total = 0;
  for (const float value : values) total += static_cast<double>(value);
  return total / static_cast<double>(values.size());
}
double mean_product(const std::vector<float>& a, const std::vector<float>& b) {
  double total = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    total += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return total / static_cast<double>(a.size());
}

TEST(RandomKeys, SplitKeysAreAllDifferent) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
  const auto add = [&](const Tensor& keys) {
    const std::vector<std::uint32_t> words = keys.to_vector<std::uint32_t>();
    for (std::size_t i = 0; i < words.size(); i += 2) {
      EXPECT_TRUE(seen.emplace(words[i], words[i + 1]).second);
    }
  };
  const Tensor root = random::key(7);
  add(root);
  const Tensor children = random::split(root, 1000);
  EXPECT_EQ(children.shape(), (Shape{1000, 2}));
  add(children);
  add(random::split(children[3], 100));
  for (std::uint32_t i = 0; i < 100; ++i) add(random::fold_in(root, i));
}

TEST(RandomKeys, FoldInTakesATensorForTheSameKey) {
  const Tensor root = random::key(99);
  EXPECT_EQ(random::fold_in(root, 5).to_vector<std::uint32_t>(),
            random::fold_in(root, Tensor(5)).to_vector<std::uint32_t>());
  // A loop finds its plan again.
  (void)random::fold_in(root, Tensor(6)).to_vector<std::uint32_t>();
  const std::uint64_t made = counters().plans_made;
  for (int step = 7; step < 12; ++step) {
    (void)random::fold_in(root, Tensor(step)).to_vector<std::uint32_t>();
  }
  EXPECT_EQ(counters().plans_made, made);
}

TEST(RandomKeys, TheHostFoldsInToo) {
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{99}, ~std::uint64_t{0} - 5}) {
    for (const std::uint32_t data : {0u, 1u, 77u, 0xffffffffu}) {
      EXPECT_EQ(random::key(seed, data).to_vector<std::uint32_t>(),
                random::fold_in(random::key(seed), data).to_vector<std::uint32_t>());
    }
  }
}

TEST(RandomKeys, StreamsAreNotCorrelated) {
  const Tensor keys = random::split(random::key(1), 4).eval();
  std::vector<std::vector<float>> streams;
  for (std::int64_t i = 0; i < 4; ++i) {
    streams.push_back(random::normal({kCount}, keys[i]).to_vector<float>());
  }
  // Six standard errors.
  const double most = 6 / std::sqrt(static_cast<double>(kCount));
  for (std::size_t i = 0; i < streams.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_LT(std::abs(mean_product(streams[i], streams[j])), most);
    }
  }
}

TEST(RandomDistributions, Moments) {
  const Tensor key = random::key(2026);
  const double standard_error = 1 / std::sqrt(static_cast<double>(kCount));
  const std::vector<float> normal = random::normal({kCount}, key).to_vector<float>();
  EXPECT_LT(std::abs(mean_of(normal)), 6 * standard_error);
  EXPECT_NEAR(mean_product(normal, normal), 1.0, 6 * std::sqrt(2.0) * standard_error);
  const std::vector<float> uniform = random::uniform({kCount}, key).to_vector<float>();
  EXPECT_NEAR(mean_of(uniform), 0.5, 2 * standard_error);
  for (const float value : uniform) ASSERT_TRUE(value >= 0 && value < 1);
  const Tensor kept = astype(random::bernoulli(0.3, {kCount}, key), DType::kF32);
  EXPECT_NEAR(mean_of(kept.to_vector<float>()), 0.3, 3 * standard_error);
  const std::vector<std::int32_t> dice =
      random::randint(1, 7, {kCount}, key).to_vector<std::int32_t>();
  for (const std::int32_t face : dice) ASSERT_TRUE(face >= 1 && face <= 6);
}

TEST(RandomDistributions, CategoricalFollowsTheProbabilities) {
  const Tensor logits = log(Tensor({0.1f, 0.6f, 0.3f}));
  const Tensor rows = broadcast_to(logits, {kCount, 3});
  const std::vector<std::int32_t> drawn =
      random::categorical(rows, random::key(5)).to_vector<std::int32_t>();
  std::array<double, 3> share{};
  for (const std::int32_t i : drawn) share[static_cast<std::size_t>(i)] += 1.0 / kCount;
  EXPECT_NEAR(share[0], 0.1, 0.01);
  EXPECT_NEAR(share[1], 0.6, 0.01);
  EXPECT_NEAR(share[2], 0.3, 0.01);
}

TEST(RandomDistributions, DrawInvertsTheRunningSum) {
  const Tensor logits = log(Tensor({0.1f, 0.0f, 0.6f, 0.3f})) + 7;
  const auto at = [&](float u) {
    return random::draw(logits, Tensor({u}, Shape{1})).item<std::int32_t>();
  };
  EXPECT_EQ(at(0), 0);
  EXPECT_EQ(at(0.0999f), 0);
  EXPECT_EQ(at(0.1001f), 2);
  EXPECT_EQ(at(0.6999f), 2);
  EXPECT_EQ(at(0.7001f), 3);
  EXPECT_EQ(at(1 - 0x1p-24f), 3);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Tensor rows({1.0f, std::nanf(""), kInf, 1.0f, -kInf, -kInf, -kInf, 1.0f}, {4, 2});
  EXPECT_EQ(random::draw(rows, zeros({4, 1})).to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{-1, -1, -1, 1}));
}

TEST(RandomDistributions, APermutationHoldsEachIndexOnce) {
  const std::vector<std::int32_t> order =
      random::permutation(1000, random::key(3)).to_vector<std::int32_t>();
  EXPECT_EQ((std::set<std::int32_t>(order.begin(), order.end())).size(), 1000u);
}

TEST(RandomDistributions, TheSameInEveryMode) {
  const auto draw = [] {
    const Tensor keys = random::split(random::key(11), 3);
    const Tensor x = random::normal({1000}, keys[0]);
    return random::dropout(x * random::uniform({1000}, keys[1], -1, 1), 0.5, keys[2])
        .to_vector<float>();
  };
  const std::vector<float> expected = draw();
  for (const ExecutionMode mode : {ExecutionMode::kEager, ExecutionMode::kSync}) {
    const ScopedExecutionMode scope(mode);
    const std::vector<float> drawn = draw();
    for (std::size_t i = 0; i < drawn.size(); ++i) {
      ASSERT_NEAR(drawn[i], expected[i], 1e-5f) << name(mode);
    }
  }
}

TEST(RandomErrors, AreTyped) {
  const Tensor key = random::key(0);
  EXPECT_THROW((void)random::bits({2}, ones({2})), DTypeError);
  EXPECT_THROW((void)random::randint(5, 5, {2}, key), ShapeError);
  EXPECT_THROW((void)random::randint(0, 300, {2}, key, DType::kU8), DTypeError);
  EXPECT_THROW((void)random::dropout(ones({2}), 1.0, key), ShapeError);
  EXPECT_THROW((void)random::normal({2}, key, DType::kI32), DTypeError);
}

}  // namespace
}  // namespace metal_candle
