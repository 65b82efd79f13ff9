// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tokenizers of every family, and every component of a tokenizer.json, against the ids and texts of
// Hugging Face's library.
#include "metal_candle/io/tokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/io/tokenizer_fixture.h"

namespace metal_candle::testing {
namespace {

using Ids = std::vector<std::int32_t>;

class TokenizerFamily : public ::testing::TestWithParam<std::string> {
 protected:
  Tokenizer tokenizer_ = Tokenizer::load(tokenizer_path(GetParam()));
  nlohmann::json cases_ = read_json(tokenizer_path(GetParam() + "/cases.json"));
};

TEST_P(TokenizerFamily, EncodesAndDecodesAsHuggingFace) {
  ASSERT_GT(cases_.at("encode").size(), 100U);
  for (const auto& test_case : cases_.at("encode")) expect_case(tokenizer_, test_case);
}

TEST_P(TokenizerFamily, DecodesIdsThatNoTextHas) {
  for (const auto& test_case : cases_.at("decode")) {
    SCOPED_TRACE(test_case.dump());
    const auto ids = test_case.at("ids").get<Ids>();
    const auto decoded = test_case.at("decoded").get<std::string>();
    const auto with_special = test_case.value("decoded_with_special", decoded);
    EXPECT_EQ(tokenizer_.decode(ids), decoded);
    EXPECT_EQ(tokenizer_.decode(ids, false), with_special);
    EXPECT_EQ(decode_streaming(tokenizer_, ids, true), decoded);
    EXPECT_EQ(decode_streaming(tokenizer_, ids, false), with_special);
  }
}

TEST_P(TokenizerFamily, ReplacesWhatIsNotUtf8AsPythonDoes) {
  ASSERT_FALSE(cases_.at("malformed").empty());
  for (const auto& test_case : cases_.at("malformed")) {
    SCOPED_TRACE(test_case.dump());
    const auto hex = test_case.at("bytes").get<std::string>();
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    EXPECT_EQ(tokenizer_.encode(bytes), test_case.at("ids").get<Ids>());
  }
}

TEST_P(TokenizerFamily, KnowsTokensByNameAndId) {
  for (const auto& [token, id] : cases_.at("tokens").items()) {
    EXPECT_EQ(tokenizer_.token_to_id(token), id.get<std::int32_t>());
    EXPECT_EQ(tokenizer_.id_to_token(id.get<std::int32_t>()), token);
  }
  const auto last = tokenizer_.vocab_size() - 1;
  EXPECT_TRUE(tokenizer_.id_to_token(last).has_value());
  EXPECT_FALSE(tokenizer_.id_to_token(last + 1).has_value());
  EXPECT_FALSE(tokenizer_.id_to_token(-1).has_value());
  EXPECT_FALSE(tokenizer_.token_to_id("no such token").has_value());
  EXPECT_EQ(tokenizer_.decode(Ids{-5, last + 1, INT32_MAX}), "");
}

TEST_P(TokenizerFamily, ThreadsShareATokenizer) {
  const auto& cases = cases_.at("encode");
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const auto& test_case = cases[(i + t * cases.size() / 4) % cases.size()];
        EXPECT_EQ(tokenizer_.encode(test_case.at("text").get<std::string>()),
                  test_case.at("ids").get<Ids>());
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerFamily, ::testing::ValuesIn(kTokenizerFamilies),
                         [](const auto& family) { return family.param; });

// Byte-level BPE without a normalizer loses nothing.
TEST(TokenizerTest, EveryByteLevelTextRoundTrips) {
  for (const std::string family : {"gpt2", "llama3"}) {
    const auto tokenizer = Tokenizer::load(tokenizer_path(family));
    const auto cases = read_json(tokenizer_path(family + "/cases.json"));
    for (const auto& test_case : cases.at("encode")) {
      const auto text = test_case.at("text").get<std::string>();
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), text);
    }
  }
}

TEST(TokenizerTest, SpecialTokensAreKnown) {
  const auto tokenizer = Tokenizer::load(tokenizer_path("qwen2"));
  const auto im_end = tokenizer.token_to_id("<|im_end|>");
  const auto tool_call = tokenizer.token_to_id("<tool_call>");
  ASSERT_TRUE(im_end && tool_call);
  EXPECT_TRUE(tokenizer.is_special(*im_end));
  EXPECT_FALSE(tokenizer.is_special(*tool_call));
  EXPECT_FALSE(tokenizer.is_special(0));
  EXPECT_EQ(tokenizer.vocab_size(), *tool_call + 2);
}

// With an algorithm that is quadratic, this would take hours.
TEST(TokenizerTest, AWordOfManyLettersIsNoProblem) {
  for (const auto& family : kTokenizerFamilies) {
    const auto tokenizer = Tokenizer::load(tokenizer_path(family));
    const std::string text(300'000, 'a');
    const auto decoded = tokenizer.decode(tokenizer.encode(text, false), false);
    EXPECT_EQ(decoded, family == "bert" ? "[UNK]" : text) << family;
  }
}

TEST(TokenizerTest, VariantsOfEveryComponentAreAsHuggingFaceHasThem) {
  const auto variants = read_json(tokenizer_path("variants.json"));
  auto metaspace = read_json(tokenizer_path("llama2/tokenizer.json"));
  metaspace["normalizer"] = nullptr;
  metaspace["post_processor"] = nullptr;
  const auto byte_level = read_json(tokenizer_path("gpt2/tokenizer.json"));
  const auto word_piece = read_json(tokenizer_path("bert/tokenizer.json"));
  for (const auto& [kind, base] : {std::pair{"metaspace", metaspace},
                                   {"byte_level", byte_level},
                                   {"word_piece", word_piece}}) {
    for (const auto& variant : variants.at(kind)) {
      const auto name = variant.at("name").get<std::string>();
      SCOPED_TRACE(name);
      auto file = base;
      for (const auto& [key, value] : variant.at("patch").items()) {
        if (key == "model") {
          file["model"].update(value);
        } else {
          file[key] = value;
        }
      }
      const auto tokenizer = Tokenizer::from_json(file.dump(), name);
      for (const auto& test_case : variant.at("encode")) expect_case(tokenizer, test_case);
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
