// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See toy_model.h.
#include "tests/train/toy_model.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::testing {

Tree make_toy_parameters(std::int64_t width, DType dtype) {
  std::uint32_t stream = 0;
  const auto draw = [&](const Shape& shape, double scale) {
    return astype(random::normal(shape, random::fold_in(random::key(7), stream++)) * scale, dtype);
  };
  const auto layer = [&](std::int64_t in, std::int64_t out) {
    Tree made;
    made["weight"] = draw({in, out}, 0.3);
    made["bias"] = draw({out}, 0.1);
    return made;
  };
  Tree parameters;
  parameters["embedding"] = draw({kToyVocabulary, width}, 0.5);
  parameters["layers"] = Tree::List{layer(width, 2 * width), layer(2 * width, kToyVocabulary)};
  eval(parameters.leaves());
  return parameters;
}

LossFunction toy_loss(double dropout) {
  return [dropout](const Tree& params, const TokenBatch& batch, const Tensor& key) {
    const Tree& layers = params.at("layers");
    Tensor x = take(params.tensor("embedding"), batch.tokens, 0);
    x = gelu(linear(x, layers.at(0).tensor("weight"), layers.at(0).tensor("bias")));
    if (dropout > 0 && !key.empty()) x = random::dropout(x, dropout, key);
    const Tensor logits = linear(x, layers.at(1).tensor("weight"), layers.at(1).tensor("bias"));
    const CrossEntropyOptions options{.ignore_index = kIgnoredTarget, .reduction = Reduction::kSum};
    return LossAndCount{cross_entropy(logits, batch.targets, options),
                        sum(astype(batch.targets != kIgnoredTarget, DType::kI32))};
  };
}

std::optional<TokenBatch> ToyBatches::next() {
  if (position_ == batches_) {
    ++pass_;
    position_ = 0;
    return {};
  }
  // Standard engines give the same numbers everywhere; its distributions need not.
  std::mt19937 engine(seed_ + static_cast<std::uint32_t>(pass_ * 1000 + position_));
  ++position_;
  const auto below = [&](std::uint32_t bound) {
    return static_cast<std::int32_t>(engine() % bound);
  };
  const std::int64_t length = 4 * (1 + below(3));
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
  constexpr auto kCount = static_cast<std::int32_t>(kToyVocabulary);
  for (std::int64_t i = 0; i < batch_ * length; ++i) {
    const std::int32_t token = below(kToyVocabulary);
    tokens.push_back(token);
    const bool noise = below(8) == 0;
    const std::int32_t target = noise ? below(kToyVocabulary) : (3 * token + 1) % kCount;
    targets.push_back(below(5) == 0 ? kIgnoredTarget : target);
  }
  return make_token_batch(tokens, targets, batch_, length);
}

std::string ToyBatches::state() const {
  return std::to_string(pass_) + " " + std::to_string(position_);
}

void ToyBatches::restore(const std::string& state) {
  long long pass = 0;
  long long position = 0;
  if (std::sscanf(state.c_str(), "%lld %lld", &pass, &position) != 2) {
    throw FormatError("not a state of ToyBatches: " + state);
  }
  pass_ = pass;
  position_ = position;
}

std::vector<double> Recorder::losses() const {
  std::vector<double> losses;
  for (const StepReport& step : steps) losses.push_back(step.loss);
  return losses;
}

TrainOptions stateful_options(const std::string& folder) {
  TrainOptions options;
  options.iters = 60;
  options.grad_accumulation_steps = 3;
  options.learning_rate = 1e-2;
  options.lr_schedule = Decay::kCosine;
  options.warmup = 4;
  options.max_grad_norm = 0.5;
  options.steps_per_report = 7;
  options.steps_per_eval = 20;
  options.save_every = 4;
  options.checkpoint_folder = folder;
  options.seed = 5;
  return options;
}

void expect_same_record(const Recorder& actual, const Recorder& expected) {
  ASSERT_EQ(actual.steps.size(), expected.steps.size());
  for (std::size_t i = 0; i < actual.steps.size(); ++i) {
    EXPECT_EQ(actual.steps[i].iteration, expected.steps[i].iteration);
    EXPECT_EQ(actual.steps[i].loss, expected.steps[i].loss) << i;
    EXPECT_EQ(actual.steps[i].tokens, expected.steps[i].tokens);
    EXPECT_EQ(actual.steps[i].learning_rate, expected.steps[i].learning_rate) << i;
    EXPECT_EQ(actual.steps[i].gradient_norm, expected.steps[i].gradient_norm) << i;
  }
  ASSERT_EQ(actual.reports.size(), expected.reports.size());
  for (std::size_t i = 0; i < actual.reports.size(); ++i) {
    EXPECT_EQ(actual.reports[i].iteration, expected.reports[i].iteration);
    EXPECT_EQ(actual.reports[i].loss, expected.reports[i].loss);
    EXPECT_EQ(actual.reports[i].learning_rate, expected.reports[i].learning_rate);
    EXPECT_EQ(actual.reports[i].gradient_norm, expected.reports[i].gradient_norm);
    EXPECT_EQ(actual.reports[i].trained_tokens, expected.reports[i].trained_tokens);
  }
  ASSERT_EQ(actual.evaluations.size(), expected.evaluations.size());
  for (std::size_t i = 0; i < actual.evaluations.size(); ++i) {
    EXPECT_EQ(actual.evaluations[i].iteration, expected.evaluations[i].iteration);
    EXPECT_EQ(actual.evaluations[i].loss, expected.evaluations[i].loss);
  }
}

}  // namespace metal_candle::testing
