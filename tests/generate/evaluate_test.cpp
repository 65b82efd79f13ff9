// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Loss and perplexity: against the probabilities that whole logits give, in double precision.
#include "metal_candle/generate/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops.h"
#include "tests/generate/tiny_model.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::tiny_config;
using testing::tiny_decoder;
using testing::tiny_prompt;

// -log of the probability of the tokens from `first` on, one sequence at a time.
double negative_log_likelihood(const Decoder& model, const std::vector<std::int32_t>& tokens,
                               std::size_t first) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  const auto logits =
      model.logits(model.hidden_states(Tensor(tokens, {1, length}))).to_vector<float>();
  const std::size_t vocab = logits.size() / tokens.size();
  double total = 0;
  for (std::size_t i = first; i < tokens.size(); ++i) {
    const float* row = logits.data() + (i - 1) * vocab;
    double sum = 0;
    for (std::size_t k = 0; k < vocab; ++k) sum += std::exp(static_cast<double>(row[k]));
    total += std::log(sum) - static_cast<double>(row[tokens[i]]);
  }
  return total;
}

TEST(Evaluate, IsTheLikelihoodOfEachSequence) {
  const Decoder model = tiny_decoder();
  std::vector<ScoredSequence> sequences;
  double expected = 0;
  std::int64_t targets = 0;
  for (const std::size_t length : {40, 2, 33, 34, 5, 70, 32}) {
    for (const std::size_t first : {1, 4}) {
      const auto tokens = tiny_prompt(static_cast<std::int64_t>(length));
      sequences.push_back({tokens, first});
      if (first >= length) continue;
      expected += negative_log_likelihood(model, tokens, first);
      targets += static_cast<std::int64_t>(length - first);
    }
  }
  for (const std::int64_t batch_size : {1, 3, 100}) {
    const Evaluation result = evaluate(model, sequences, {.batch_size = batch_size});
    EXPECT_EQ(result.targets, targets);
    EXPECT_EQ(result.sequences, 13u);
    EXPECT_NEAR(result.summed_loss, expected, 1e-4 * expected);
    const double mean = expected / static_cast<double>(targets);
    EXPECT_NEAR(result.loss(), mean, 1e-4 * mean);
    EXPECT_NEAR(result.perplexity(), std::exp(mean), 1e-3 * std::exp(mean));
    EXPECT_GT(result.targets_per_second(), 0);
  }
}

TEST(Evaluate, NothingPredictsTheFirstToken) {
  const Decoder model = tiny_decoder();
  const std::vector<ScoredSequence> from_0 = {{tiny_prompt(9), 0}}, from_1 = {{tiny_prompt(9), 1}};
  EXPECT_EQ(evaluate(model, from_0).targets, 8);
  EXPECT_EQ(evaluate(model, from_0).summed_loss, evaluate(model, from_1).summed_loss);
}

TEST(Evaluate, TellsProgressAndCanBeEnded) {
  const std::vector<ScoredSequence> sequences(7, {tiny_prompt(9), 1});
  std::vector<std::size_t> done;
  EvaluateOptions options;
  options.batch_size = 3;
  options.progress = [&](std::size_t count) { done.push_back(count); };
  static_cast<void>(evaluate(tiny_decoder(), sequences, options));
  EXPECT_THAT(done, ElementsAre(3, 6, 7));
  std::stop_source source;
  options.cancellation = source.get_token();
  options.progress = [&](std::size_t) { source.request_stop(); };
  EXPECT_EQ(evaluate(tiny_decoder(), sequences, options).targets, 3 * 8);
}

TEST(Evaluate, RefusesWhatCannotBe) {
  DecoderConfig config = tiny_config();
  config.max_position_embeddings = 20;
  const Decoder model = tiny_decoder(config);
  const auto message = [&](const std::vector<ScoredSequence>& sequences) {
    return message_of<Error>([&] { static_cast<void>(evaluate(model, sequences)); });
  };
  EXPECT_THAT(message({}), HasSubstr("no sequence has a token to predict"));
  EXPECT_THAT(message({{{1}, 1}, {{}, 0}, {{1, 2, 3}, 3}}), HasSubstr("no sequence has a token"));
  EXPECT_EQ(evaluate(model, std::vector<ScoredSequence>{{tiny_prompt(21), 1}}).targets, 20);
  EXPECT_THAT(message({{{1, 2}, 1}, {tiny_prompt(22), 1}}),
              HasSubstr("sequence 1 has 22 tokens, but the model's context holds 20"));
  EXPECT_THAT(message({{{1, 97}, 1}}), HasSubstr("sequence 0 has token 97"));
  EXPECT_THAT(message_of<Error>([&] {
                static_cast<void>(
                    evaluate(model, std::vector<ScoredSequence>{{{1, 2}, 1}}, {.batch_size = 0}));
              }),
              HasSubstr("batch_size is 0"));
}

}  // namespace
}  // namespace metal_candle
