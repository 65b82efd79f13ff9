// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/jsonl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "metal_candle/core/error.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::testing {
namespace {

using ::testing::HasSubstr;

class Jsonl : public ::testing::Test {
 protected:
  std::string write(const std::string& contents) {
    const std::string path = folder_ / "train.jsonl";
    std::ofstream(path, std::ios::binary) << contents;
    return path;
  }
  std::string error(const std::string& contents) {
    try {
      static_cast<void>(read_examples(write(contents)));
    } catch (const FormatError& e) {
      return e.what();
    }
    return "no error";
  }
  TemporaryFolder folder_;
};

TEST_F(Jsonl, ReadsTheThreeForms) {
  const auto texts =
      read_examples(write("{\"text\": \"a\\u00e9\"}\n\n{\"text\": \"b\", \"id\": 4}\r\n"));
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[0].form, ExampleForm::kText);
  EXPECT_EQ(texts[0].text, "a\xC3\xA9");
  EXPECT_EQ(texts[1].line, 3u);

  const auto pairs = read_examples(write("\xEF\xBB\xBF{\"prompt\": \"p\", \"completion\": \"c\"}"));
  EXPECT_EQ(pairs[0].form, ExampleForm::kCompletion);
  EXPECT_EQ(pairs[0].prompt + "|" + pairs[0].completion, "p|c");

  const auto chats = read_examples(write(
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],)"
      R"( "tools": [{"name": "f"}]})"));
  EXPECT_EQ(chats[0].messages,
            R"([{"role":"user","content":"q"},{"role":"assistant","content":"a"}])");
  EXPECT_EQ(chats[0].request, R"([{"role":"user","content":"q"}])");
  EXPECT_TRUE(chats[0].ends_with_assistant);
  EXPECT_EQ(chats[0].tools, R"([{"name":"f"}])");
}

TEST_F(Jsonl, BadLinesAreNamed) {
  const std::string good = "{\"text\": \"a\"}\n";
  const struct {
    const char* line;
    const char* message;
  } cases[] = {
      {"{\"text\": \"a\"", "train.jsonl:2: not valid JSON"},
      {"{\"text\": \"\xFF\"}", "train.jsonl:2: not valid JSON"},
      {"[1]", "train.jsonl:2: expected a JSON object, found array"},
      {"{\"txt\": \"a\"}", "train.jsonl:2: expected a key \"text\""},
      {"{\"text\": 3}", "train.jsonl:2: \"text\": expected a string, found number"},
      {"{\"prompt\": \"a\"}", "train.jsonl:2: \"completion\" is missing"},
      {"{\"messages\": []}", "train.jsonl:2: \"messages\""},
      {"{\"messages\": [\"hi\"]}", "train.jsonl:2: \"messages\": expected objects"},
      {"{\"messages\": [{\"content\": \"x\"}]}", "train.jsonl:2: \"role\" is missing"},
      {"{\"prompt\": \"a\", \"completion\": \"b\"}", "a file is of one form"},
  };
  for (const auto& c : cases) EXPECT_THAT(error(good + c.line), HasSubstr(c.message)) << c.line;
}

TEST_F(Jsonl, NothingToRead) {
  EXPECT_THAT(error(""), HasSubstr("train.jsonl: there is no example"));
  EXPECT_THAT(error("\n \n"), HasSubstr("there is no example"));
  EXPECT_THROW(static_cast<void>(read_examples("/nonexistent/train.jsonl")), IoError);
}

}  // namespace
}  // namespace metal_candle::testing
