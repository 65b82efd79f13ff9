// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "tests/io/tokenizer_fixture.h"

#include <gtest/gtest.h>

#include <fstream>
#include <stdexcept>

#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::testing {
namespace {

using Ids = std::vector<std::int32_t>;

Ids ids_of(const nlohmann::json& test_case, const char* key, const Ids& otherwise) {
  return test_case.contains(key) ? test_case.at(key).get<Ids>() : otherwise;
}

}  // namespace

std::string tokenizer_path(const std::string& name) {
  return std::string(METAL_CANDLE_SOURCE_DIR "/tests/fixtures/tokenizers/").append(name);
}

nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  return nlohmann::json::parse(file);
}

std::string decode_streaming(const Tokenizer& tokenizer, const Ids& ids, bool skip_special_tokens) {
  auto stream = tokenizer.stream(skip_special_tokens);
  std::string text;
  const auto take = [&](const std::string& piece) {
    EXPECT_TRUE(tokenizers::is_utf8(piece)) << "half a character";
    text += piece;
  };
  for (const auto id : ids) take(stream.push(id));
  take(stream.finish());
  return text;
}

void expect_case(const Tokenizer& tokenizer, const nlohmann::json& test_case) {
  const auto text = test_case.at("text").get<std::string>();
  SCOPED_TRACE("text " + test_case.at("text").dump());
  const auto ids = test_case.at("ids").get<Ids>();
  EXPECT_EQ(tokenizer.encode(text), ids);
  const Ids plain = ids_of(test_case, "plain", ids);
  EXPECT_EQ(tokenizer.encode(text, false), plain);
  EXPECT_EQ(tokenizer.encode(text, false, SpecialTokensInText::kText),
            ids_of(test_case, "as_text", plain));
  const auto decoded = test_case.value("decoded", text);
  const auto decoded_with_special = test_case.value("decoded_with_special", decoded);
  EXPECT_EQ(tokenizer.decode(ids), decoded);
  EXPECT_EQ(tokenizer.decode(ids, false), decoded_with_special);
  EXPECT_EQ(decode_streaming(tokenizer, ids, true), decoded);
  EXPECT_EQ(decode_streaming(tokenizer, ids, false), decoded_with_special);
}

}  // namespace metal_candle::testing
