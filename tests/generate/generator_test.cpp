// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Generation as users see it: text that streams, and all the ways to end.
#include "metal_candle/generate/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
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

Tokenizer tokenizer() {
  return Tokenizer::load(METAL_CANDLE_SOURCE_DIR "/tests/fixtures/tokenizers/qwen2/tokenizer.json");
}

// Speaks gibberish of the whole vocabulary.
Generator make_generator() {
  const Tokenizer words = tokenizer();
  return Generator(tiny_decoder(tiny_config(words.vocab_size())), words);
}

GenerateOptions gibberish(std::int64_t max_tokens = 60) {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.sampling.temperature = 2;
  options.sampling.seed = 3;
  return options;
}

TEST(Generator, TextIsThatOfTheTokensAndStreams) {
  Generator generator = make_generator();
  Tokens tokens;
  std::string text;
  const GenerationResult result =
      generator.generate("Once upon a time", gibberish(), [&](const GeneratedPiece& piece) {
        tokens.push_back(piece.token);
        text += piece.text;
        return true;
      });
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(result.tokens.size(), 60u);
  EXPECT_EQ(result.tokens, tokens);
  EXPECT_EQ(result.text, text);
  EXPECT_EQ(result.text, tokenizer().decode(tokens));
  EXPECT_EQ(generator.generate("Once upon a time", gibberish()).text, text);
}

TEST(Generator, CountsAndTimes) {
  Generator generator = make_generator();
  const std::string prompt = "Once upon a time, there was a prompt";
  const auto length = static_cast<std::int64_t>(tokenizer().encode(prompt).size());
  const GenerationResult first = generator.generate(prompt, gibberish(20));
  EXPECT_EQ(first.stats.prompt_tokens, length);
  EXPECT_EQ(first.stats.reused_tokens, 0);
  EXPECT_EQ(first.stats.generated_tokens, 20);
  EXPECT_GT(first.stats.seconds_to_first_token, 0);
  EXPECT_GT(first.stats.prompt_tokens_per_second(), 0);
  EXPECT_NEAR(first.stats.tokens_per_second() * first.stats.seconds_after_first_token, 19, 1e-6);
  EXPECT_GE(first.stats.peak_memory_bytes, generator.model().bytes());
  const GenerationResult second = generator.generate(prompt, gibberish(1));
  EXPECT_EQ(second.stats.reused_tokens, length - 1);
  EXPECT_EQ(second.stats.tokens_per_second(), 0);
}

TEST(Generator, EndsWithATokenThatEndsTexts) {
  Generator generator = make_generator();
  const GenerationResult whole = generator.generate("Hello", gibberish());
  // The first token that was not there before, but for the very first.
  std::size_t at = 1;
  while (std::find(whole.tokens.begin(), whole.tokens.begin() + static_cast<std::ptrdiff_t>(at),
                   whole.tokens[at]) != whole.tokens.begin() + static_cast<std::ptrdiff_t>(at)) {
    ++at;
  }
  GenerateOptions options = gibberish();
  options.eos_token_ids = {std::int64_t{1} << 40, whole.tokens[at]};
  const GenerationResult result = generator.generate("Hello", options);
  EXPECT_EQ(result.finish_reason, FinishReason::kEos);
  EXPECT_EQ(result.tokens, Tokens(whole.tokens.begin(),
                                  whole.tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1));
  EXPECT_EQ(result.text, tokenizer().decode(std::span(result.tokens).first(at)));
}

TEST(Generator, TheModelSaysWhichTokensEndTexts) {
  DecoderConfig config = tiny_config();
  for (std::int64_t i = 0; i < config.vocab_size; ++i) config.eos_token_ids.push_back(i);
  Generator generator(tiny_decoder(config));
  GenerateOptions options = gibberish(7);
  EXPECT_EQ(generator.generate(tiny_prompt(5), options).tokens.size(), 1u);
  options.eos_token_ids.emplace();
  EXPECT_EQ(generator.generate(tiny_prompt(5), options).tokens.size(), 7u);
}

TEST(Generator, NothingOfAStopStringIsShown) {
  Generator generator = make_generator();
  const std::string whole = generator.generate("Hello", gibberish()).text;
  ASSERT_GT(whole.size(), 60u);
  int between_tokens = 0;
  for (std::size_t begin = 0; begin < 50; begin += 3) {
    GenerateOptions options = gibberish();
    options.stop = {"never comes", whole.substr(begin, 7)};
    std::string streamed;
    const GenerationResult result =
        generator.generate("Hello", options, [&](const GeneratedPiece& piece) {
          streamed += piece.text;
          return true;
        });
    EXPECT_EQ(result.finish_reason, FinishReason::kStop);
    EXPECT_EQ(result.text, whole.substr(0, whole.find(options.stop[1])));
    EXPECT_EQ(streamed, result.text);
    between_tokens += tokenizer().decode(result.tokens) != result.text + options.stop[1];
  }
  EXPECT_GT(between_tokens, 0);
}

TEST(Generator, EndsAtTheContext) {
  DecoderConfig config = tiny_config();
  config.max_position_embeddings = 12;
  Generator generator(tiny_decoder(config));
  const GenerationResult result = generator.generate(tiny_prompt(10), gibberish());
  EXPECT_EQ(result.finish_reason, FinishReason::kContext);
  EXPECT_EQ(result.tokens.size(), 3u);
}

TEST(Generator, EndsWhenTheCallbackSaysSo) {
  Generator generator = make_generator();
  const GenerationResult whole = generator.generate("Hello", gibberish());
  int calls = 0;
  const GenerationResult result =
      generator.generate("Hello", gibberish(), [&](const GeneratedPiece&) { return ++calls < 5; });
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.tokens, Tokens(whole.tokens.begin(), whole.tokens.begin() + 5));
  EXPECT_EQ(generator.generate("Hello", gibberish()).tokens, whole.tokens);
}

TEST(Generator, AnotherThreadCancels) {
  DecoderConfig config = tiny_config();
  config.max_position_embeddings = 1 << 20;
  Generator generator(tiny_decoder(config));
  std::stop_source source;
  std::atomic<int> calls = 0;
  GenerateOptions options = gibberish(1 << 12);
  options.cancellation = source.get_token();
  std::thread canceller([&] {
    while (calls < 3) std::this_thread::yield();
    source.request_stop();
  });
  const GenerationResult result =
      generator.generate(tiny_prompt(5), options, [&](const GeneratedPiece&) {
        ++calls;
        return true;
      });
  canceller.join();
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_GE(result.tokens.size(), 3u);
  EXPECT_LT(result.tokens.size(), 1u << 12);
  // Before it begins, too.
  const GenerationResult none = generator.generate(tiny_prompt(5), options);
  EXPECT_EQ(none.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(none.tokens.empty());
}

TEST(Generator, WhatTheCallbackThrowsIsThrownAndDoesNoHarm) {
  Generator generator = make_generator();
  const Tokens tokens = generator.generate("Hello", gibberish()).tokens;
  EXPECT_THROW(generator.generate("Hello", gibberish(),
                                  [](const GeneratedPiece&) -> bool {
                                    throw std::runtime_error("the reader has gone");
                                  }),
               std::runtime_error);
  EXPECT_EQ(generator.generate("Hello", gibberish()).tokens, tokens);
}

TEST(Generator, ThreadsWithGeneratorsOfTheirOwnShareAModel) {
  const Decoder model = tiny_decoder();
  const auto run = [&](std::int64_t length) {
    Generator generator(model);
    return generator.generate(tiny_prompt(length), gibberish()).tokens;
  };
  std::vector<Tokens> expected, actual(4);
  for (std::int64_t i = 0; i < 4; ++i) expected.push_back(run(5 + i));
  std::vector<std::thread> threads;
  for (std::int64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] { actual[static_cast<std::size_t>(i)] = run(5 + i); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(actual, expected);
}

TEST(Generator, TextNeedsATokenizer) {
  Generator generator(tiny_decoder());
  EXPECT_THAT(message_of<Error>([&] { generator.generate("Hello"); }), HasSubstr("tokenizer"));
  GenerateOptions options;
  options.stop = {"\n"};
  EXPECT_THAT(message_of<Error>([&] { generator.generate(tiny_prompt(3), options); }),
              HasSubstr("tokenizer"));
  EXPECT_THAT(message_of<Error>([&] { make_generator().generate(""); }), HasSubstr("no tokens"));
}

TEST(Generator, ReasonsHaveNames) {
  EXPECT_EQ(name(FinishReason::kEos), "eos");
  EXPECT_EQ(name(FinishReason::kStop), "stop");
  EXPECT_EQ(name(FinishReason::kLength), "length");
  EXPECT_EQ(name(FinishReason::kContext), "context");
  EXPECT_EQ(name(FinishReason::kCancelled), "cancelled");
}

}  // namespace
}  // namespace metal_candle
