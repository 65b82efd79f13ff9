// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Which tokens can be chosen and how often: against Hugging Face's logits processors, and drawing.
#include "metal_candle/generate/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/fixture.h"

namespace metal_candle {
namespace {

using testing::FixtureCase;
using ::testing::HasSubstr;
using testing::HostTensor;

SamplingOptions options_of(const FixtureCase& c) {
  SamplingOptions options;
  options.temperature = c.get<float>("temperature");
  options.top_k = c.get<std::int64_t>("top_k");
  options.top_p = c.get<float>("top_p");
  options.min_p = c.get<float>("min_p");
  options.repetition_penalty = c.get<float>("repetition_penalty");
  options.repetition_context = c.get<std::int64_t>("repetition_context");
  return options;
}

TEST(Sampler, SurvivorsAndTheirProbabilitiesAreThoseOfTransformers) {
  ASSERT_GE(testing::fixture_cases("sampling").size(), 100u);
  for (const FixtureCase& c : testing::fixture_cases("sampling")) {
    SCOPED_TRACE(c.describe());
    const Tensor logits = expand_dims(c.inputs[0].tensor(), 0);
    const auto history = c.inputs[1].tensor().to_vector<std::int32_t>();
    const Sampler sampler(options_of(c), logits.dim(1));
    const Sampler::State state = sampler.start(history, 64);
    const Tensor scores = sampler.scores(logits, state);
    const auto actual = softmax(scores).to_vector<float>();
    const HostTensor& expected = c.outputs[0];
    for (std::int64_t i = 0; i < expected.size(); ++i) {
      const float p = actual[static_cast<std::size_t>(i)];
      EXPECT_EQ(p > 0, expected.r(i) > 0) << i << ": " << p << " and " << expected.r(i);
      EXPECT_NEAR(p, expected.r(i), 1e-6 + 1e-4 * expected.r(i)) << i;
    }
  }
}

// Tokens of the same logits [1, vocab]: `draws` a step.
std::vector<std::int32_t> draw(const Sampler& sampler, const Tensor& logits, int draws,
                               int steps = 1) {
  Sampler::State state = sampler.start({}, steps);
  std::vector<Tensor> tokens;
  for (int i = 0; i < steps; ++i) {
    tokens.push_back(sampler.next(broadcast_to(logits, {draws, logits.dim(1)}), state));
  }
  return concatenate(tokens).to_vector<std::int32_t>();
}

TEST(Sampler, DrawsWithTheProbabilitiesOfTheScores) {
  constexpr int kDraws = 6000;
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 40;
  // More than one block of the search, and not a whole number of them.
  const Tensor logits = (random::normal({1, 700}, random::key(3)) * 2.0).eval();
  const Sampler sampler(options, 700);
  const auto p = softmax(sampler.scores(logits, sampler.start({}, 1))).to_vector<float>();
  std::vector<double> seen(p.size(), 0);
  for (const std::int32_t token : draw(sampler, logits, kDraws))
    ++seen.at(static_cast<std::size_t>(token));
  // Pearson's statistic has a mean of 39 and a deviation of 9 if these are the probabilities.
  double statistic = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double expected = kDraws * static_cast<double>(p[i]);
    if (p[i] == 0) {
      EXPECT_EQ(seen[i], 0) << i;
    } else {
      statistic += (seen[i] - expected) * (seen[i] - expected) / expected;
    }
  }
  EXPECT_LT(statistic, 39 + 5 * 9);
  EXPECT_GT(statistic, 39 - 4 * 9);
}

TEST(Sampler, EveryTokenThatIsCertainIsFound) {
  SamplingOptions options;
  options.temperature = 1;
  for (const std::int64_t vocab : {1, 2, 255, 256, 257, 1000}) {
    const Sampler sampler(options, vocab);
    for (const std::int64_t certain : {std::int64_t{0}, vocab / 2, vocab - 1}) {
      const Tensor logits = expand_dims(where(arange(vocab) == certain, 0.0f, -200.0f), 0);
      for (const std::int32_t token : draw(sampler, logits, 20)) EXPECT_EQ(token, certain) << vocab;
    }
  }
}

TEST(Sampler, TemperatureZeroIsArgmax) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Tensor logits = astype(random::normal({3, 1000}, random::key(1)), dtype).eval();
    const Sampler sampler({}, 1000);
    Sampler::State state = sampler.start({}, 1);
    EXPECT_EQ(sampler.next(logits, state).to_vector<std::int32_t>(),
              argmax(logits, -1).to_vector<std::int32_t>());
  }
}

TEST(Sampler, SeedsAndStepsGiveOtherTokensTheSameSeedTheSame) {
  const Tensor logits = zeros({1, 1 << 20});
  SamplingOptions options;
  options.temperature = 1;
  options.seed = 5;
  const auto first = draw(Sampler(options, 1 << 20), logits, 1, 8);
  EXPECT_EQ(first, draw(Sampler(options, 1 << 20), logits, 1, 8));
  EXPECT_EQ(std::set<std::int32_t>(first.begin(), first.end()).size(), 8u);
  options.seed = 6;
  EXPECT_NE(first, draw(Sampler(options, 1 << 20), logits, 1, 8));
}

TEST(Sampler, RowsOfABatchAreIndependent) {
  SamplingOptions options;
  options.temperature = 1;
  const Tensor logits = random::normal({1, 300}, random::key(9)).eval();
  const auto tokens = draw(Sampler(options, 300), logits, 64);
  EXPECT_GT(std::set<std::int32_t>(tokens.begin(), tokens.end()).size(), 20u);
}

TEST(Sampler, ThePenaltyFollowsTheTokensChosen) {
  SamplingOptions options;
  options.repetition_penalty = 2;
  options.repetition_context = 2;
  const Sampler sampler(options, 4);
  // Penalised, 5 becomes 2.5, and -1 becomes -2.
  const Tensor logits = Tensor({5.0f, 4.0f, 3.0f, -1.0f}, {1, 4});
  const std::vector<std::int32_t> prompt = {0, 3, 3};
  Sampler::State state = sampler.start(prompt, 10);
  EXPECT_EQ(sampler.scores(logits, state).to_vector<float>(), (std::vector<float>{5, 4, 3, -2}));
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 5; ++i) {
    const Tensor token = sampler.next(logits, state);
    eval(token, state.recent);
    tokens.push_back(token.item<std::int32_t>());
  }
  EXPECT_EQ(tokens, (std::vector<std::int32_t>{0, 1, 2, 0, 1}));
}

TEST(Sampler, AContextOfZeroCountsAllTokens) {
  SamplingOptions options;
  options.repetition_penalty = 100;
  options.repetition_context = 0;
  const Sampler sampler(options, 6);
  const Tensor logits = Tensor({6.0f, 5.0f, 4.0f, 3.0f, 2.0f, 1.0f}, {1, 6});
  const std::vector<std::int32_t> prompt = {1, 3};
  Sampler::State state = sampler.start(prompt, 6);
  std::vector<Tensor> tokens;
  for (int i = 0; i < 4; ++i) tokens.push_back(sampler.next(logits, state));
  EXPECT_EQ(concatenate(tokens).to_vector<std::int32_t>(), (std::vector<std::int32_t>{0, 2, 4, 5}));
}

TEST(Sampler, RowsWithoutProbabilitiesAreMinusOne) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Tensor logits({1.0f, 2.0f, 3.0f, 1.0f, kNan, 3.0f}, {2, 3});
  const Tensor infinite({kInf, 2.0f, 3.0f, -kInf, -kInf, -kInf}, {2, 3});
  for (const SamplingOptions& options :
       {SamplingOptions{}, SamplingOptions{.temperature = 1},
        SamplingOptions{.temperature = 1, .top_k = 2},
        SamplingOptions{.temperature = 0.5f, .top_p = 0.9f},
        SamplingOptions{.temperature = 2, .top_p = 0.9f, .min_p = 0.1f},
        SamplingOptions{.temperature = 1, .min_p = 0.1f}}) {
    const Sampler sampler(options, 3);
    Sampler::State state = sampler.start({}, 2);
    const auto tokens = sampler.next(logits, state).to_vector<std::int32_t>();
    EXPECT_GE(tokens[0], 0);
    EXPECT_EQ(tokens[1], -1);
    if (options.temperature == 0) continue;
    EXPECT_EQ(sampler.next(infinite, state).to_vector<std::int32_t>(),
              (std::vector<std::int32_t>{-1, -1}));
  }
}

TEST(Sampler, OnePlanServesEveryStep) {
  SamplingOptions options;
  options.temperature = 0.7f;
  options.top_p = 0.9f;
  options.repetition_penalty = 1.1f;
  const Sampler sampler(options, 500);
  const Tensor logits = random::normal({1, 500}, random::key(9)).eval();
  Sampler::State state = sampler.start({}, 100);
  std::uint64_t plans = 0;
  for (int i = 0; i < 5; ++i) {
    if (i == 1) plans = counters().plans_made;
    const Tensor token = sampler.next(logits, state);
    eval(token, state.recent);
  }
  EXPECT_EQ(counters().plans_made, plans);
}

void expect_refused(const SamplingOptions& options, const char* name) {
  try {
    const Sampler sampler(options, 10);
    FAIL() << name;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(name));
  }
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {-1.0f, nan, std::numeric_limits<float>::infinity()}) {
    expect_refused({.temperature = bad}, "temperature");
  }
  for (const float bad : {0.0f, 1.5f, nan}) expect_refused({.top_p = bad}, "top_p");
  for (const float bad : {-0.1f, 1.1f, nan}) expect_refused({.min_p = bad}, "min_p");
  for (const float bad : {0.0f, -1.0f, nan}) {
    expect_refused({.repetition_penalty = bad}, "repetition_penalty");
  }
  expect_refused({.top_k = -1}, "top_k");
  expect_refused({.repetition_context = -1}, "repetition_context");
}

}  // namespace
}  // namespace metal_candle
