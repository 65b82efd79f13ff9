// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The decoding loop: against a loop that computes every sequence from its beginning, and what it
// costs in plans and memory.
#include "metal_candle/generate/token_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/generate/tiny_model.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::tiny_config;
using testing::tiny_decoder;
using testing::tiny_prompt;
using Tokens = std::vector<std::int32_t>;

// Greedy, without a cache.
Tokens continued(const Decoder& model, Tokens tokens, int count) {
  Tokens result;
  for (int i = 0; i < count; ++i) {
    const Tensor input(tokens, {1, static_cast<std::int64_t>(tokens.size())});
    const Tensor last = model.hidden_states(input).slice({{}, {-1}});
    const auto token = argmax(model.logits(last), -1).item<std::int32_t>();
    result.push_back(token);
    tokens.push_back(token);
  }
  return result;
}

Tokens run(TokenStream& stream, const TokenStream::Request& request) {
  EXPECT_TRUE(stream.start(request));
  Tokens tokens;
  while (stream.more()) tokens.push_back(stream.next());
  return tokens;
}

Tokens run(TokenStream& stream, const Tokens& prompt, std::int64_t max_tokens) {
  return run(stream, {.prompt = prompt, .max_tokens = max_tokens});
}

TEST(TokenStream, GreedyTokensAreThoseOfWholePasses) {
  for (int rich = 0; rich < 2; ++rich) {
    DecoderConfig config = tiny_config();
    if (rich != 0) {
      config.qk_norm = true;
      config.tie_word_embeddings = false;
      config.windows = {0, 5};
    }
    const Decoder model = tiny_decoder(config);
    for (const std::int64_t length : {1, 2, 15, 16, 17, 33, 70}) {
      const Tokens prompt = tiny_prompt(length);
      const Tokens expected = continued(model, prompt, 9);
      for (const std::int64_t chunk : {1, 7, 16, 512}) {
        TokenStream stream(model);
        EXPECT_EQ(run(stream, {.prompt = prompt, .max_tokens = 9, .prefill_chunk = chunk}),
                  expected)
            << length << " tokens in chunks of " << chunk;
      }
    }
  }
}

TEST(TokenStream, TheSameSeedGivesTheSameTokensInEveryMode) {
  const Decoder model = tiny_decoder();
  SamplingOptions sampling;
  sampling.temperature = 0.9f;
  sampling.top_k = 50;
  sampling.top_p = 0.95f;
  sampling.min_p = 0.001f;
  sampling.repetition_penalty = 1.1f;
  sampling.seed = 4;
  std::vector<Tokens> results;
  const Tokens prompt = tiny_prompt(20);
  for (const ExecutionMode mode :
       {ExecutionMode::kEager, ExecutionMode::kSync, ExecutionMode::kAsync}) {
    const ScopedExecutionMode scope(mode);
    TokenStream stream(model);
    results.push_back(run(stream, {.prompt = prompt, .max_tokens = 40, .sampling = sampling}));
  }
  EXPECT_EQ(results[0].size(), 40u);
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

TEST(TokenStream, OnePlanServesEveryStepAndPromptsOfOtherLengths) {
  DecoderConfig config = tiny_config();
  config.hidden_size = 20;  // A structure that no other test has planned.
  const Decoder model = tiny_decoder(config);
  SamplingOptions sampling;
  sampling.temperature = 1;
  sampling.top_p = 0.9f;
  sampling.repetition_penalty = 1.2f;
  const auto plans_of = [&](const Tokens& prompt, std::int64_t max_tokens, std::uint64_t seed) {
    TokenStream stream(model);
    sampling.seed = seed;
    const std::uint64_t before = counters().plans_made;
    run(stream, {.prompt = prompt, .max_tokens = max_tokens, .sampling = sampling});
    return counters().plans_made - before;
  };
  plans_of(tiny_prompt(20), 1, 0);  // The cache, and the prompt.
  EXPECT_EQ(plans_of(tiny_prompt(20), 50, 0), 1u);
  EXPECT_EQ(plans_of(tiny_prompt(20), 50, 1), 0u);
  EXPECT_EQ(plans_of(tiny_prompt(17), 70, 2), 0u);
  EXPECT_EQ(plans_of(tiny_prompt(31), 20, 3), 0u);
}

TEST(TokenStream, StepsWriteTheCacheInPlace) {
  const Decoder model = tiny_decoder();
  TokenStream stream(model);
  run(stream, tiny_prompt(20), 3);
  ASSERT_TRUE(stream.start({.prompt = tiny_prompt(20), .max_tokens = 60}));
  static_cast<void>(stream.next());
  synchronize();
  const std::uint64_t donations = counters().donations;
  const std::size_t memory = memory_use().in_use;
  reset_peak_memory();
  while (stream.more()) static_cast<void>(stream.next());
  synchronize();
  EXPECT_LE(memory_use().in_use, memory);
  // Keys and values of each layer, each step but the one that was queued.
  EXPECT_GE(counters().donations - donations, 58u * 4u);
  // A copy of a key cache would be 12 KiB.
  const std::size_t one_step = memory_use().peak - memory;
  TokenStream longer(tiny_decoder());
  ASSERT_TRUE(longer.start({.prompt = tiny_prompt(20), .max_tokens = 300}));
  static_cast<void>(longer.next());
  synchronize();
  const std::size_t more_memory = memory_use().in_use;
  reset_peak_memory();
  while (longer.more()) static_cast<void>(longer.next());
  // On a GPU two steps may be in flight, each with memory of its own.
  const std::size_t steps = default_device() == Device::cpu() ? 1 : 2;
  EXPECT_LE(memory_use().peak - more_memory, steps * one_step + 4096);
}

TEST(TokenStream, SkipsWhatTheNextPromptBeginsWith) {
  const Decoder model = tiny_decoder();
  TokenStream stream(model);
  Tokens conversation = tiny_prompt(20);
  EXPECT_EQ(stream.reused_tokens(), 0);
  for (int turn = 0; turn < 16; ++turn) {
    SCOPED_TRACE(turn);
    // The answer before, but for its last token, which was not fed back.
    const std::int64_t known =
        turn == 0 ? 0 : static_cast<std::int64_t>(conversation.size()) - 8 - 1;
    const Tokens answer = run(stream, conversation, 10);
    EXPECT_EQ(answer, continued(model, conversation, 10));
    EXPECT_EQ(stream.reused_tokens(), known);
    conversation.insert(conversation.end(), answer.begin(), answer.end());
    for (int i = 0; i < 8; ++i) conversation.push_back((turn * 13 + i * 7) % 97);
  }
  EXPECT_GT(stream.capacity(), 256);  // It grew, and kept what it held.
}

TEST(TokenStream, APromptThatWasABeginningIsComputedFromItsLastToken) {
  const Decoder model = tiny_decoder();
  TokenStream stream(model);
  const Tokens prompt = tiny_prompt(40);
  const Tokens expected = run(stream, prompt, 5);
  EXPECT_EQ(run(stream, prompt, 5), expected);
  EXPECT_EQ(stream.reused_tokens(), 39);
  const Tokens shorter(prompt.begin(), prompt.begin() + 10);
  EXPECT_EQ(run(stream, shorter, 5), continued(model, shorter, 5));
  EXPECT_EQ(stream.reused_tokens(), 9);
  Tokens other = prompt;
  other[4] = 96;
  EXPECT_EQ(run(stream, other, 5), continued(model, other, 5));
  EXPECT_EQ(stream.reused_tokens(), 4);
}

TEST(TokenStream, AnotherModelForgetsTheCache) {
  const Decoder first = tiny_decoder(), second = tiny_decoder(tiny_config(), 2);
  TokenStream stream(first);
  const Tokens prompt = tiny_prompt(30);
  EXPECT_EQ(run(stream, prompt, 6), continued(first, prompt, 6));
  stream.set_model(second);
  EXPECT_EQ(run(stream, prompt, 6), continued(second, prompt, 6));
  EXPECT_EQ(stream.reused_tokens(), 0);
}

TEST(TokenStream, EndsWhereTheContextDoes) {
  DecoderConfig config = tiny_config();
  config.max_position_embeddings = 20;
  const Decoder model = tiny_decoder(config);
  TokenStream stream(model);
  const Tokens prompt = tiny_prompt(15);
  EXPECT_EQ(run(stream, prompt, 100), continued(model, prompt, 6));
  EXPECT_TRUE(stream.limited_by_context());
  EXPECT_EQ(run(stream, prompt, 6).size(), 6u);
  EXPECT_FALSE(stream.limited_by_context());
  EXPECT_EQ(run(stream, tiny_prompt(20), 100).size(), 1u);
  const std::string message =
      message_of<Error>([&] { static_cast<void>(stream.start({.prompt = tiny_prompt(21)})); });
  EXPECT_THAT(message, HasSubstr("21 tokens"));
  EXPECT_THAT(message, HasSubstr("holds 20"));
}

TEST(TokenStream, DynamicScalingSeesTheWholePrompt) {
  DecoderConfig config = tiny_config();
  config.max_position_embeddings = 20;
  config.rope_scaling.kind = RopeScaling::Kind::kDynamic;
  config.rope_scaling.factor = 3;
  const Decoder model = tiny_decoder(config);
  TokenStream stream(model);
  for (const std::int64_t length : {18, 21, 37, 60}) {
    const Tokens prompt = tiny_prompt(length);
    for (int repeat = 0; repeat < 2; ++repeat) {
      EXPECT_EQ(run(stream, {.prompt = prompt, .max_tokens = 1, .prefill_chunk = 16}),
                continued(model, prompt, 1))
          << length;
    }
  }
  EXPECT_THAT(message_of<Error>([&] { run(stream, tiny_prompt(61), 1); }), HasSubstr("holds 60"));
}

TEST(TokenStream, RefusesWhatCannotBe) {
  TokenStream stream(tiny_decoder());
  const auto message = [&](const Tokens& prompt, std::int64_t max_tokens) {
    return message_of<Error>([&] { run(stream, prompt, max_tokens); });
  };
  EXPECT_THAT(message({}, 4), HasSubstr("no tokens"));
  EXPECT_THAT(message({1, 97}, 4), HasSubstr("token 97"));
  EXPECT_THAT(message({1, -1}, 4), HasSubstr("token -1"));
  EXPECT_THAT(message({1}, 0), HasSubstr("max_tokens is 0"));
  EXPECT_EQ(run(stream, {1}, 1).size(), 1u);
  EXPECT_THAT(message_of<Error>([&] { static_cast<void>(stream.next()); }), HasSubstr("has ended"));
}

// Of which no token can be chosen.
Decoder broken_decoder(const Decoder& model) {
  Tree::Dict broken;
  broken["model.norm.weight"] = full({24}, std::numeric_limits<float>::quiet_NaN()).eval();
  return model.with_parameters(broken);
}

TEST(TokenStream, TheNextStepIsQueuedBeforeATokenIsRead) {
  TokenStream stream(broken_decoder(tiny_decoder()));
  ASSERT_TRUE(stream.start({.prompt = tiny_prompt(5), .max_tokens = 4}));
  const std::uint64_t before = counters().evaluations;
  EXPECT_THROW(static_cast<void>(stream.next()), Error);  // Reading the first token.
  EXPECT_EQ(counters().evaluations - before, 1u);
}

TEST(TokenStream, LogitsThatAreNaNAreAnError) {
  const Decoder model = tiny_decoder();
  TokenStream stream(broken_decoder(model));
  EXPECT_THAT(message_of<Error>([&] { run(stream, tiny_prompt(5), 4); }), HasSubstr("not numbers"));
  stream.set_model(model);
  EXPECT_EQ(run(stream, tiny_prompt(5), 4), continued(model, tiny_prompt(5), 4));
}

}  // namespace
}  // namespace metal_candle
