// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// JSON objects: what getters take, what errors name, and which keys were read.
#include "metal_candle/io/json_object.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metal_candle/core/error.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using testing::TemporaryFolder;

JsonObject parse(const char* text) { return JsonObject::parse(text, "some.json"); }

TEST(JsonObject, Values) {
  const JsonObject json = parse(R"({"i": 7, "f": 2.5, "b": true, "s": "text",
      "n": null, "strings": ["a", "b"], "numbers": [1, 2.5], "integers": [1, 2.0],
      "object": {"i": 9}, "objects": [{"i": 1}, {"i": 2}]})");
  EXPECT_EQ(json.integer("i"), 7);
  EXPECT_EQ(json.number("i"), 7);
  EXPECT_EQ(json.number("f"), 2.5);
  EXPECT_TRUE(json.boolean("b"));
  EXPECT_EQ(json.string("s"), "text");
  EXPECT_THAT(json.strings("strings"), ElementsAre("a", "b"));
  EXPECT_THAT(json.numbers("numbers"), ElementsAre(1, 2.5));
  EXPECT_THAT(json.integers("integers"), ElementsAre(1, 2));
  EXPECT_EQ(json.object("object").integer("i"), 9);
  EXPECT_EQ(json.objects("objects").at(1).integer("i"), 2);
  EXPECT_THAT(json.keys(), ElementsAre("b", "f", "i", "integers", "n", "numbers", "object",
                                       "objects", "s", "strings"));
}

TEST(JsonObject, IntegersMayBeSpelledAsFloats) {
  const JsonObject json = parse(
      R"({"a": 2048.0, "b": -3.0, "c": 2.5, "d": 1e300, "e": 9223372036854775808, "f": -1e19})");
  EXPECT_EQ(json.integer("a"), 2048);
  EXPECT_EQ(json.integer("b"), -3);
  for (const char* key : {"c", "d", "e", "f"}) {
    EXPECT_THAT(message_of<FormatError>([&] { (void)json.integer(key); }),
                HasSubstr(std::string("some.json: ") + key + ": expected an integer"));
  }
}

TEST(JsonObject, NullIsMissingAndYetThere) {
  const JsonObject json = parse(R"({"n": null})");
  EXPECT_FALSE(json.has("n"));
  EXPECT_TRUE(json.contains("n"));
  EXPECT_FALSE(json.contains("m"));
  for (const char* key : {"n", "m"}) {
    EXPECT_EQ(json.integer(key, 5), 5);
    EXPECT_EQ(json.number(key, 0.5), 0.5);
    EXPECT_TRUE(json.boolean(key, true));
    EXPECT_EQ(json.string(key, "otherwise"), "otherwise");
    EXPECT_EQ(json.type(key), "null");
    EXPECT_THAT(message_of<FormatError>([&] { (void)json.integer(key); }),
                HasSubstr(std::string("some.json: ") + key + ": missing"));
  }
}

TEST(JsonObject, WrongTypesNameFileKeyAndValue) {
  const JsonObject json = parse(R"({"s": "7", "f": 2.5, "b": 1, "mixed": [1, "2"], "i": 3,
      "nested": {"deep": {"s": 1}}, "o": [{}, 1]})");
  const auto error = [](auto fn) { return message_of<FormatError>(fn); };
  EXPECT_EQ(error([&] { (void)json.integer("s"); }),
            "some.json: s: expected an integer, found \"7\"");
  EXPECT_EQ(error([&] { (void)json.integer("f"); }),
            "some.json: f: expected an integer, found 2.5");
  EXPECT_THAT(error([&] { (void)json.integer("s", 1); }), HasSubstr("some.json: s"));
  EXPECT_THAT(error([&] { (void)json.number("s"); }), HasSubstr("expected a number"));
  EXPECT_THAT(error([&] { (void)json.boolean("b"); }), HasSubstr("true or false, found 1"));
  EXPECT_THAT(error([&] { (void)json.string("f"); }), HasSubstr("expected a string"));
  EXPECT_THAT(error([&] { (void)json.strings("mixed"); }), HasSubstr("a list of strings"));
  EXPECT_THAT(error([&] { (void)json.strings("i"); }), HasSubstr("a list of strings"));
  EXPECT_THAT(error([&] { (void)json.numbers("mixed"); }), HasSubstr("a list of numbers"));
  EXPECT_THAT(error([&] { (void)json.integers("i"); }), HasSubstr("a list of integers"));
  EXPECT_THAT(error([&] { (void)json.integers("mixed"); }), HasSubstr("an integer, found \"2\""));
  EXPECT_THAT(error([&] { (void)json.object("i"); }), HasSubstr("expected an object"));
  EXPECT_THAT(error([&] { (void)json.objects("o"); }), HasSubstr("a list of objects"));
  EXPECT_EQ(error([&] { (void)json.object("nested").object("deep").string("s"); }),
            "some.json: nested.deep.s: expected a string, found 1");
}

TEST(JsonObject, LongValuesAreCut) {
  const JsonObject json = parse((R"({"s": ")" + std::string(1000, 'x') + R"("})").c_str());
  EXPECT_LT(message_of<FormatError>([&] { (void)json.integer("s"); }).size(), 120u);
}

TEST(JsonObject, AccountsForWhatWasRead) {
  const JsonObject json = parse(R"({"a": 1, "b": 2, "c": {"d": 1, "e": {"f": 2}, "g": 0},
      "off": false, "nothing": null, "none": [], "empty": {}, "zero": 0})");
  EXPECT_THAT(json.unread(), ElementsAre("a", "b", "c", "zero"));
  (void)json.integer("a");
  json.ignore({"zero", "not there"});
  EXPECT_THAT(json.unread(), ElementsAre("b", "c"));
  const JsonObject inner = json.object("c");
  EXPECT_THAT(json.unread(), ElementsAre("b", "c.d", "c.e", "c.g"));
  (void)inner.integer("d");
  (void)json.has("b");
  (void)json.type("b");
  EXPECT_THAT(json.unread(), ElementsAre("b", "c.e", "c.g"));
  (void)inner.object("e").number("f", 1);
  (void)json.integer("b", 1);
  inner.ignore({"g"});
  EXPECT_THAT(json.unread(), IsEmpty());
}

TEST(JsonObject, Files) {
  const TemporaryFolder folder;
  EXPECT_EQ(JsonObject::read(folder.write("a.json", R"({"i": 1})")).integer("i"), 1);
  EXPECT_THAT(message_of<IoError>([&] { (void)JsonObject::read(folder / "none.json"); }),
              AllOf(HasSubstr(folder / "none.json"), HasSubstr("No such file")));
  EXPECT_THAT(message_of<IoError>([&] { (void)JsonObject::read(folder.path()); }),
              HasSubstr(folder.path()));
  for (const char* text : {"", "{", "[1]", "7", R"({"a": 1} x)", "{\"a\": \"\xff\"}"}) {
    EXPECT_THAT(
        message_of<FormatError>([&] { (void)JsonObject::read(folder.write("b.json", text)); }),
        HasSubstr(folder / "b.json"))
        << text;
  }
  // Deeper than any stack.
  EXPECT_THAT(message_of<FormatError>(
                  [] { (void)JsonObject::parse(std::string(2000000, '['), "deep.json"); }),
              HasSubstr("deep.json"));
}

}  // namespace
}  // namespace metal_candle
