// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::Pointee;

class TokenizerConfigTest : public ::testing::Test {
 protected:
  TokenizerConfigTest()
      : folder_(std::filesystem::path(::testing::TempDir()) /
                ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::create_directories(folder_ / "additional_chat_templates");
  }
  ~TokenizerConfigTest() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& contents) {
    std::ofstream(folder_ / name) << contents;
  }
  [[nodiscard]] TokenizerConfig load() const { return TokenizerConfig::load(folder_.string()); }
  [[nodiscard]] std::string format_error() const {
    try {
      (void)load();
    } catch (const FormatError& error) {
      return error.what();
    }
    return "no error";
  }

  std::filesystem::path folder_;
};

TEST_F(TokenizerConfigTest, NothingIsNeeded) {
  const auto config = load();
  EXPECT_FALSE(config.bos_token || config.eos_token || config.pad_token || config.unk_token);
  EXPECT_FALSE(config.add_bos_token || config.add_eos_token);
  EXPECT_THAT(config.chat_templates, IsEmpty());
  EXPECT_THAT(config.eos_token_ids, IsEmpty());
  EXPECT_EQ(config.chat_template(), nullptr);
}

TEST_F(TokenizerConfigTest, TokensAreStringsOrObjects) {
  write("tokenizer_config.json", R"({
    "add_bos_token": true, "add_eos_token": false, "bos_token": null, "clean_up": {"a": []},
    "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": false},
    "pad_token": "<pad>", "model_max_length": 1000000000000000019884624838656})");
  write("special_tokens_map.json", R"({"bos_token": {"content": "<s>"}, "pad_token": "<other>"})");
  const auto config = load();
  EXPECT_EQ(config.bos_token, "<s>");
  EXPECT_EQ(config.eos_token, "</s>");
  EXPECT_EQ(config.pad_token, "<pad>");
  EXPECT_FALSE(config.unk_token);
  EXPECT_EQ(config.add_bos_token, true);
  EXPECT_EQ(config.add_eos_token, false);
}

TEST_F(TokenizerConfigTest, ChatTemplatesComeInThreeForms) {
  write("tokenizer_config.json", R"({"chat_template": "{{ one }}"})");
  EXPECT_THAT(load().chat_template(), Pointee(std::string("{{ one }}")));
  write("tokenizer_config.json", R"({"chat_template": [
    {"name": "default", "template": "{{ two }}"}, {"name": "tool_use", "template": "{{ three }}"}]})");
  EXPECT_THAT(load().chat_templates,
              ElementsAre(Pair("default", "{{ two }}"), Pair("tool_use", "{{ three }}")));
  write("chat_template.jinja", "{{ four }}\n");
  write("additional_chat_templates/rag.jinja", "{{ five }}");
  write("additional_chat_templates/notes.txt", "no template");
  EXPECT_THAT(load().chat_templates,
              ElementsAre(Pair("default", "{{ four }}\n"), Pair("rag", "{{ five }}"),
                          Pair("tool_use", "{{ three }}")));
}

TEST_F(TokenizerConfigTest, GenerationConfigComesBeforeConfig) {
  write("config.json", R"({"eos_token_id": 2})");
  EXPECT_THAT(load().eos_token_ids, ElementsAre(2));
  write("generation_config.json", R"({"temperature": 0.6})");
  EXPECT_THAT(load().eos_token_ids, ElementsAre(2));
  write("generation_config.json", R"({"eos_token_id": [128001, 128008, 128009]})");
  EXPECT_THAT(load().eos_token_ids, ElementsAre(128001, 128008, 128009));
}

TEST_F(TokenizerConfigTest, WhatIsMalformedIsNamed) {
  const auto expect_complaint = [&](const char* file, const char* contents, const char* complaint) {
    write(file, contents);
    EXPECT_THAT(format_error(), AllOf(HasSubstr((folder_ / file).string()), HasSubstr(complaint)));
    std::filesystem::remove(folder_ / file);
  };
  expect_complaint("tokenizer_config.json", "{\"bos_token\": ", "not valid JSON at byte");
  expect_complaint("tokenizer_config.json", "[]", "is an array, not an object");
  expect_complaint("tokenizer_config.json", R"({"bos_token": 1})", "bos_token: is an integer");
  expect_complaint("tokenizer_config.json", R"({"eos_token": {}})", "eos_token: has no 'content'");
  expect_complaint("tokenizer_config.json", R"({"add_bos_token": "yes"})",
                   "add_bos_token: is a string, not true or false");
  expect_complaint("tokenizer_config.json", R"({"chat_template": 3})",
                   "chat_template: is neither a template nor");
  expect_complaint("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})",
                   "chat_template[0]: has no 'template'");
  expect_complaint("special_tokens_map.json", R"({"pad_token": ["<pad>"]})",
                   "pad_token: is an array, not a string");
  expect_complaint("generation_config.json", R"({"eos_token_id": [1, "2"]})",
                   "eos_token_id[1]: is a string, not an integer");
  expect_complaint("config.json", R"({"eos_token_id": -1})", "eos_token_id: -1 is not in [0, ");
}

}  // namespace
}  // namespace metal_candle
