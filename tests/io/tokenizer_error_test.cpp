// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A tokenizer.json may be anybody's: whatever is wrong with it is an error that names file and key.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/io/tokenizer.h"
#include "tests/io/tokenizer_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

// The message of the FormatError that reading `text` throws.
std::string format_error(const std::string& text) {
  try {
    (void)Tokenizer::from_json(text, "x/tokenizer.json");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}

// The smallest file there is, with one part changed.
std::string changed(const char* pointer, const Json& value) {
  Json file = Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}})");
  file[Json::json_pointer(pointer)] = value;
  return file.dump();
}

Json added_token(int id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

TEST(TokenizerErrorTest, TheSmallestFileIsRead) {
  EXPECT_EQ(Tokenizer::from_json(changed("/padding", nullptr)).encode("aba"),
            (std::vector<std::int32_t>{2, 0}));
}

TEST(TokenizerErrorTest, MissingFilesAndFoldersAreNamed) {
  const auto io_error = [](const std::string& path) -> std::string {
    try {
      (void)Tokenizer::load(path);
    } catch (const IoError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(io_error("/no/such/file.json"),
              AllOf(HasSubstr("/no/such/file.json"), HasSubstr("No such file")));
  const std::string folder = METAL_CANDLE_SOURCE_DIR "/tests";
  EXPECT_THAT(io_error(folder), HasSubstr(folder + "/tokenizer.json"));
}

struct BadFile {
  const char* pointer;
  Json value;
  const char* where;
  const char* complaint;
};

TEST(TokenizerErrorTest, EveryComplaintNamesFileAndKey) {
  const auto type = [](const char* name) { return Json{{"type", name}}; };
  const Json regex = {{"type", "Split"},
                      {"pattern", {{"Regex", "(a"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const std::vector<BadFile> bad_files = {
      {"/version", "2.0", "version", "'2.0' is not supported"},
      {"/version", 1, "version", "is an integer, not a string"},
      {"/extra", 1, "extra", "is not known here"},
      {"/model", nullptr, "", "has no 'model'"},
      {"/model", {{"vocab", Json::object()}}, "model", "neither a type nor merges"},
      {"/model/type", "Unigram", "model.type", "'Unigram' is not supported"},
      {"/model/type", "WordLevel", "model.type", "'WordLevel' is not supported"},
      {"/model/vocab", {1, 2}, "model.vocab", "is not an object"},
      {"/model/vocab/c", 2, "model.vocab.c", "id 2 is also that of"},
      {"/model/vocab/c\n\nd", "3", "model.vocab.'c??d'", "is a string, not an integer"},
      {"/model/vocab/c", -1, "model.vocab.c", "-1 is not in [0, "},
      {"/model/vocab/c", 1 << 30, "model.vocab.c", "1073741824 is not in [0, "},
      {"/model/vocab/c", 1e30, "model.vocab.c", "is a real number, not an integer"},
      {"/model/vocab/c", "3", "model.vocab.c", "is a string, not an integer"},
      {"/model/merges", "a b", "model.merges", "is a string, not an array"},
      {"/model/merges/0", {"a", "c"}, "model.merges[0]", "'c' is not in the vocabulary"},
      {"/model/merges/0", {"b", "a"}, "model.merges[0]", "'ba' is not in the vocabulary"},
      {"/model/merges/0", {"a"}, "model.merges[0]", "is not a pair"},
      {"/model/merges/0", {"a", 1}, "model.merges[0][1]", "is an integer, not a string"},
      {"/model/merges/0", "ab", "model.merges[0]", "is not two tokens"},
      {"/model/merges/0", "a b c", "model.merges[0]", "is not two tokens"},
      {"/model/dropout", 0.1, "model.dropout", "would make encoding random"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix", "is not supported"},
      {"/model/byte_fallback", 1, "model.byte_fallback", "is an integer, not true or false"},
      {"/model",
       {{"type", "WordPiece"},
        {"unk_token", "[UNK]"},
        {"continuing_subword_prefix", "##"},
        {"max_input_chars_per_word", 100},
        {"vocab", {{"a", 0}}}},
       "model.unk_token",
       "'[UNK]' is not in the vocabulary"},
      {"/model/type", "WordPiece", "model", "has no 'continuing_subword_prefix'"},
      {"/model/new_option", true, "model.new_option", "is not known here"},
      {"/added_tokens/0", added_token(3, "a"), "added_tokens[0]", "id 3 here and 0 in the voc"},
      {"/added_tokens/0", added_token(0, "c"), "added_tokens[0]", "id 0 is 'c' here and 'a' in"},
      {"/added_tokens",
       {added_token(3, "c"), added_token(3, "d")},
       "added_tokens[1]",
       "id 3 occurs twice"},
      {"/added_tokens",
       {added_token(3, "c"), added_token(4, "c")},
       "added_tokens[1]",
       "'c' occurs twice"},
      {"/added_tokens/0", {{"id", 3}}, "added_tokens[0]", "has no 'content'"},
      {"/normalizer", type("Precompiled"), "normalizer.type", "'Precompiled' is not supported"},
      {"/normalizer",
       {{"type", "Sequence"}, {"normalizers", {type("NFC"), type("Nmt")}}},
       "normalizer.normalizers[1].type",
       "'Nmt' is not supported"},
      {"/normalizer", {{"type", "Prepend"}, {"prepend", 1}}, "normalizer.prepend", "not a string"},
      {"/normalizer",
       {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", ""}},
       "normalizer.pattern.String",
       "is empty"},
      {"/pre_tokenizer", type("UnicodeScripts"), "pre_tokenizer.type", "is not supported"},
      {"/pre_tokenizer",
       {{"type", "Metaspace"}, {"replacement", "ab"}},
       "pre_tokenizer.replacement",
       "'ab' is not one character"},
      {"/pre_tokenizer",
       {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}},
       "pre_tokenizer.prepend_scheme",
       "'last' is none of"},
      {"/pre_tokenizer",
       {{"type", "Punctuation"}, {"behavior", "Split"}},
       "pre_tokenizer.behavior",
       "'Split' is no behavior"},
      {"/pre_tokenizer", regex, "pre_tokenizer.pattern.Regex", "end pattern with unmatched paren"},
      {"/post_processor", type("Other"), "post_processor.type", "is not supported"},
      {"/post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}}},
        {"special_tokens", Json::object()}},
       "post_processor.special_tokens",
       "has no '<s>'"},
      {"/post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}}},
        {"special_tokens", {{"<s>", {{"ids", {3}}}}}}},
       "post_processor.special_tokens.<s>.ids[0]",
       "there is no token of id 3"},
      {"/decoder", type("CTC"), "decoder.type", "'CTC' is not supported"},
  };
  for (const BadFile& bad : bad_files) {
    SCOPED_TRACE(bad.where);
    const std::string where = *bad.where == 0 ? "" : std::string(bad.where) + ": ";
    EXPECT_THAT(format_error(changed(bad.pointer, bad.value)),
                AllOf(StartsWith("x/tokenizer.json: " + where), HasSubstr(bad.complaint)));
  }
}

TEST(TokenizerErrorTest, WhatIsNoJsonIsAnErrorWithThePosition) {
  for (const char* text :
       {"", "{", "nothing", "{\"a\": }", "{\"a\": 1} x", "\"\\ud800\"", "\"\xff\""}) {
    EXPECT_THAT(format_error(text), StartsWith("x/tokenizer.json: not valid JSON at byte "))
        << text;
  }
  EXPECT_THAT(format_error("[]"), HasSubstr("is an array, not an object"));
  EXPECT_THAT(format_error(R"({"version": "1.0", "version": "1.0"})"),
              HasSubstr("'version' occurs twice"));
}

TEST(TokenizerErrorTest, DeepNestingIsRefused) {
  const std::string brackets(1'000'000, '[');
  EXPECT_THAT(format_error(brackets), HasSubstr("nested more than 100 levels deep"));
  EXPECT_THAT(format_error("{\"normalizer\": " + brackets), HasSubstr("nested more than"));
}

TEST(TokenizerErrorTest, TruncatedFilesAreRefused) {
  const std::string file = read_json(tokenizer_path("mistral/tokenizer.json")).dump();
  for (std::size_t size = 0; size < file.size(); size += 1 + file.size() / 300) {
    EXPECT_THAT(format_error(file.substr(0, size)), HasSubstr("x/tokenizer.json: not valid JSON"));
  }
}

// The places of all values in a file, and of all that holds them.
std::set<std::string> places_in(const Json& file) {
  std::set<std::string> places;
  const Json values = file.flatten();
  for (const auto& [place, value] : values.items()) {
    for (Json::json_pointer at(place); !at.empty(); at.pop_back()) places.insert(at.to_string());
  }
  return places;
}

// Puts values of all kinds in the place of every value. Each file is read, or refused with its
// name.
TEST(TokenizerErrorTest, ValuesOfWrongKindsDoNoHarm) {
  int read = 0;
  int refused = 0;
  for (const auto& family : kTokenizerFamilies) {
    Json file = read_json(tokenizer_path(family + "/tokenizer.json"));
    // A few tokens stand for all of them.
    if (family == "bert") {
      file["model"]["vocab"] = {{"[PAD]", 0}, {"[UNK]", 1},  {"[CLS]", 2},
                                {"[SEP]", 3}, {"[MASK]", 4}, {"hello", 5}};
    } else {
      file["model"]["vocab"] = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2},   {"a", 3},     {"b", 4},
                                {"ab", 5},    {"ba", 6},  {"<0xC3>", 7}, {"<0xA9>", 8}};
      file["model"]["merges"] = {{"a", "b"}, "b a"};
    }
    ASSERT_NO_THROW((void)Tokenizer::from_json(file.dump()));
    for (const std::string& place : places_in(file)) {
      for (const Json& value : {Json(nullptr), Json(true), Json(-7), Json(1e300), Json("x"),
                                Json::array(), Json{0, "a"}, Json{{"type", "x"}}}) {
        Json bad = file;
        bad[Json::json_pointer(place)] = value;
        try {
          (void)Tokenizer::from_json(bad.dump(), "x/tokenizer.json").encode("Hello <s> world é");
          ++read;
        } catch (const FormatError& error) {
          ++refused;
          ASSERT_THAT(error.what(), StartsWith("x/tokenizer.json")) << place << " " << value;
        }
      }
    }
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 1000);
}

TEST(TokenizerErrorTest, ARegularExpressionThatTakesTooLongIsAnError) {
  const auto tokenizer = Tokenizer::from_json(
      changed("/normalizer",
              {{"type", "Replace"}, {"pattern", {{"Regex", "(?:a|a|aa)+$"}}}, {"content", ""}}));
  try {
    (void)tokenizer.encode(std::string(60, 'a') + "b");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'(?:a|a|aa)+$': retry-limit-in-"));
  }
}

TEST(TokenizerErrorTest, AnUnknownTokenThatIsMissingIsAnErrorWhenNeeded) {
  const auto tokenizer = Tokenizer::from_json(changed("/model/unk_token", "<unk>"), "x.json");
  EXPECT_EQ(tokenizer.encode("ab").size(), 1U);
  EXPECT_THROW((void)tokenizer.encode("abc"), FormatError);
}

}  // namespace
}  // namespace metal_candle::testing
