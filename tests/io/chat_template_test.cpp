// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Chat templates, compared with what Hugging Face transformers rendered
// (scripts/make_chat_template_fixtures.py).
#include "metal_candle/io/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::string read_fixture(const std::string& name) {
  const std::string path = METAL_CANDLE_SOURCE_DIR "/tests/fixtures/chat_templates/" + name;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The local time at which the fixtures were rendered.
std::chrono::system_clock::time_point fixture_time() {
  std::tm time{};
  time.tm_year = 2024 - 1900;
  time.tm_mon = 6;
  time.tm_mday = 26;
  time.tm_hour = 15;
  time.tm_min = 4;
  time.tm_sec = 5;
  time.tm_isdst = -1;
  return std::chrono::system_clock::from_time_t(std::mktime(&time));
}

// What rendering gives or, of an error, its message.
struct Outcome {
  std::optional<std::string> text;
  std::string error;
};

template <typename Render>
Outcome outcome_of(Render render) {
  try {
    return {render(), ""};
  } catch (const FormatError& error) {
    return {std::nullopt, error.what()};
  }
}

void expect_same(const Json& wanted, const Outcome& outcome) {
  if (wanted.contains("text")) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.text.value_or(""), wanted["text"].get<std::string>());
    return;
  }
  EXPECT_FALSE(outcome.text) << *outcome.text;
  EXPECT_THAT(outcome.error,
              AllOf(HasSubstr(": line "), HasSubstr(wanted["error"].get<std::string>())));
}

std::string render(std::string_view source, std::string_view context = "{}") {
  return ChatTemplate::parse(source, "x.jinja").render_context(context);
}

// The message of the error that rendering ends with.
std::string error_of(std::string_view source, std::string_view context = "{}") {
  const Outcome outcome = outcome_of([&] { return render(source, context); });
  EXPECT_FALSE(outcome.text) << "rendered as '" << outcome.text.value_or("") << "'";
  return outcome.error;
}

TEST(ChatTemplateTest, ConstructsRenderAsInJinja) {
  const Json fixture = Json::parse(read_fixture("constructs.json"));
  const std::string context = fixture["context"].dump();
  EXPECT_GT(fixture["cases"].size(), 400U);
  for (const Json& wanted : fixture["cases"]) {
    const auto source = wanted["template"].get<std::string>();
    SCOPED_TRACE(source);
    expect_same(
        wanted, outcome_of([&] {
          return ChatTemplate::parse(source, "x.jinja").render_context(context, fixture_time());
        }));
  }
}

class ChatTemplateFamily : public ::testing::TestWithParam<const char*> {};

TEST_P(ChatTemplateFamily, ConversationsRenderAsInTransformers) {
  const Json fixture = Json::parse(read_fixture("conversations.json"));
  const auto chat = ChatTemplate::parse(read_fixture(GetParam()), GetParam());
  int cases = 0;
  for (const Json& wanted : fixture["cases"]) {
    if (wanted["template"] != GetParam()) continue;
    ++cases;
    SCOPED_TRACE(wanted["messages"].dump() + " tools " + wanted["tools"].dump() + " variables " +
                 wanted["variables"].dump());
    ChatTemplateOptions options;
    options.add_generation_prompt = wanted["add_generation_prompt"].get<bool>();
    options.bos_token = "<s>";
    options.eos_token = "</s>";
    options.variables = wanted["variables"].dump();
    options.now = fixture_time();
    const Json& tools = fixture["tools"][wanted["tools"].get<std::string>()];
    if (!tools.is_null()) options.tools = tools.dump();
    const Json& messages = fixture["messages"][wanted["messages"].get<std::string>()];
    expect_same(wanted, outcome_of([&] { return chat.render_json(messages.dump(), options); }));
  }
  EXPECT_GT(cases, 50);
}

INSTANTIATE_TEST_SUITE_P(Templates, ChatTemplateFamily,
                         ::testing::Values("llama2.jinja", "llama3.jinja", "llama3_tools.jinja",
                                           "macros.jinja", "mistral.jinja", "mistral_tools.jinja",
                                           "qwen2.jinja", "qwen2_tools.jinja", "qwen3.jinja"),
                         [](const auto& test) {
                           const std::string name = test.param;
                           return name.substr(0, name.find('.'));
                         });

TEST(ChatTemplateTest, MessagesOfRoleAndContent) {
  const auto chat = ChatTemplate::parse(
      "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m['content'] }}\n{% endfor %}"
      "{% if add_generation_prompt %}assistant:{% endif %}{{ eos_token is defined }}{{ tools }}",
      "x.jinja");
  ChatTemplateOptions options;
  options.bos_token = "<s>";
  EXPECT_EQ(chat.render({{"user", "Hi"}, {"assistant", "Hello"}}, options),
            "<s>user: Hi\nassistant: Hello\nFalseNone");
  options.add_generation_prompt = true;
  options.eos_token = "";
  EXPECT_EQ(chat.render({{"user", "é"}}, options), "<s>user: é\nassistant:TrueNone");
  options.tools = R"([{"name": "f"}])";
  options.variables = R"({"bos_token": "[", "eos_token": null})";
  EXPECT_EQ(chat.render({}, options), "[assistant:True[{'name': 'f'}]");
  EXPECT_EQ(chat.name(), "x.jinja");
}

TEST(ChatTemplateTest, InputThatIsNotWhatItShouldBe) {
  const auto chat = ChatTemplate::parse("{{ messages }}", "x.jinja");
  const auto json_error = [&](std::string_view messages, ChatTemplateOptions options = {}) {
    return outcome_of([&] { return chat.render_json(messages, options); }).error;
  };
  EXPECT_THAT(json_error("[{]"), HasSubstr("x.jinja: messages: not JSON at byte "));
  EXPECT_THAT(json_error("{}"), HasSubstr("x.jinja: the messages are not a JSON array"));
  EXPECT_THAT(json_error("[{}, 1]"), HasSubstr("x.jinja: message 2 is not a JSON object"));
  EXPECT_THAT(json_error("[{\"a\": 9223372036854775808}]"), HasSubstr("is beyond 64 bits"));
  EXPECT_THAT(json_error("[{\"a\": -99999999999999999999}]"), HasSubstr("is beyond 64 bits"));
  EXPECT_THAT(json_error("[{\"a\": \"\xff\"}]"), HasSubstr("messages: not JSON"));
  EXPECT_THAT(json_error("[{\"a\": \"\\ud800\"}]"), HasSubstr("messages: not JSON"));
  EXPECT_THAT(json_error(std::string(100000, '[')), HasSubstr("nests deeper than 200"));
  ChatTemplateOptions options;
  options.tools = "{}";
  EXPECT_THAT(json_error("[]", options), HasSubstr("x.jinja: tools are not a JSON array"));
  options.tools.clear();
  options.variables = "[]";
  EXPECT_THAT(json_error("[]", options), HasSubstr("x.jinja: variables are not a JSON object"));
  options.variables = "{";
  EXPECT_THAT(json_error("[]", options), HasSubstr("x.jinja: variables: not JSON"));

  EXPECT_THAT(outcome_of([&] {
                return chat.render({{"user", "a\xc0\x80"}});
              }).error,
              HasSubstr("x.jinja: message 1: byte 1 is not UTF-8"));
  EXPECT_THAT(error_of("ab\xed\xa0\x80"), HasSubstr("x.jinja: byte 2 is not UTF-8"));
  EXPECT_THAT(error_of("a", "[]"), HasSubstr("x.jinja: not a JSON object"));
}

TEST(ChatTemplateTest, ErrorsNameTheLine) {
  EXPECT_EQ(error_of("a\n{{ 1 }}\n{{ missing.x }}"), "x.jinja: line 3: 'missing' is undefined");
  EXPECT_EQ(error_of("{% if true %}\n\n{{ raise_exception('No.') }}{% endif %}"),
            "x.jinja: line 3: the template refuses the conversation: No.");
  EXPECT_EQ(error_of("{% macro m(x) %}\n{{ x.y.z }}\n{% endmacro %}\n\n{{ m({}) }}"),
            "x.jinja: line 2: a dict has no 'y'");
  EXPECT_EQ(error_of("{{ 'a\r\nb' }}\r{{\n1 +\n'a' }}"),
            "x.jinja: line 4: '+' does not take an int and a string");
  EXPECT_EQ(error_of("\n{% for x in [1] %}\n"),
            "x.jinja: line 2: '{% endfor %}' is missing at the end of the template");
  EXPECT_EQ(error_of("{# \n #}{% raw %}\n\n{% endraw %}{{ \n[1 }}"),
            "x.jinja: line 5: '}' instead of ']'");
  EXPECT_EQ(error_of("\n{% set a, b = [1] %}"),
            "x.jinja: line 2: cannot assign 1 values to 2 names");
}

TEST(ChatTemplateTest, WhatIsOutsideTheSubsetIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n{% include 'a' %}", "line 2: the statement '{% include %}' is not supported"},
      {"{% block a %}{% endblock %}", "the statement '{% block %}' is not supported"},
      {"{% filter upper %}a{% endfilter %}", "the statement '{% filter %}' is not supported"},
      {"{% call m() %}{% endcall %}", "the statement '{% call %}' is not supported"},
      {"{% for x in [1] recursive %}{% endfor %}", "recursive loops are not supported"},
      {"\n\n{{ 'a' | urlize }}", "line 3: the filter 'urlize' is not supported"},
      {"{{ 1 is strange }}", "the test 'strange' is not supported"},
      {"{{ ['a'] | map('center') | list }}", "the filter 'center' is not supported"},
      {"{{ 'a'.center(5) }}", "the method 'center' of a string is not supported"},
      {"{{ '%s' % 1 }}", "'%' does not take a string and an int"},
      {"{{ range(*[1]) }}", "'*' before an argument is not supported"},
      {"{{ [1][0, 1] }}", "an index of several parts is not supported"},
      {"{{ lipsum() }}", "the function 'lipsum' is not supported"},
      {"{{ {}.items }}", "a function items cannot be printed"},
      {"{{ range(3) }}", "a range cannot be printed"},
      {"{{ namespace() }}", "a namespace cannot be printed"},
      {"{{ ('a' | safe) + 'b' }}", "'+' does not take a safe string and a string"},
      {"{{ 'a' | safe | upper }}", "the filter 'upper' of a safe string is not supported"},
      {"{{ ('a' | safe).upper() }}", "the method 'upper' of a safe string is not supported"},
      {"{{ 'stra\u00dfe' | upper }}", "changing the case of U+00DF is not supported"},
      {"{{ '\u03a3' | lower }}", "changing the case of U+03A3 is not supported"},
      {"{{ 0x1F }}", "numbers of other bases than ten are not supported"},
      {"{{ \u00e9 }}", "unexpected character '\u00e9'"},
      {"{{ '\\ud800' }}", "U+D800, which a string escapes, is no character"},
      {"{{ '\\N{BULLET}' }}", "an escape that is not supported"},
      {"{{ 9223372036854775807 + 1 }}", "an integer is beyond 64 bits"},
      {"{{ 9223372036854775808 }}", "the number 9223372036854775808 is out of range"},
      {"{{ 3037000500 ** 2 }}", "an integer is beyond 64 bits"},
      {"{{ -9223372036854775807 - 2 }}", "an integer is beyond 64 bits"},
      {"{{ (-9223372036854775807 - 1) // -1 }}", "an integer is beyond 64 bits"},
  };
  for (const auto& [source, message] : cases) {
    SCOPED_TRACE(source);
    EXPECT_THAT(error_of(source), AllOf(HasSubstr("x.jinja: line "), HasSubstr(message)));
  }
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

TEST(ChatTemplateTest, NestingIsBounded) {
  const std::size_t n = 100000;
  const std::string sources[] = {
      "{{ " + repeated("(", n) + "1" + repeated(")", n) + " }}",
      "{{ " + repeated("[", n) + repeated("]", n) + " }}",
      "{{ " + repeated("{1: ", n) + "2" + repeated("}", n) + " }}",
      "{{ " + repeated("-", n) + "1 }}",
      "{{ " + repeated("not ", n) + "1 }}",
      "{{ 1" + repeated(" + 1", n) + " }}",
      "{{ 1" + repeated(" * 1", n) + " }}",
      "{{ 1" + repeated(" or 1", n) + " }}",
      "{{ 1" + repeated(" ** 1", n) + " }}",
      "{{ 'a'" + repeated(" | trim", n) + " }}",
      "{{ a" + repeated(".b", n) + " }}",
      "{{ a" + repeated("[0]", n) + " }}",
      "{{ a" + repeated("()", n) + " }}",
      "{{ 1" + repeated(" if 1 else 1", n) + " }}",
      "{{ 1" + repeated(" if 1", n) + " }}",
      "{{ a(" + repeated("a(", n) + repeated(")", n) + ") }}",
      "{% set " + repeated("(", n) + "a" + repeated(")", n) + " = 1 %}",
      repeated("{% if 1 %}", n) + repeated("{% endif %}", n),
      repeated("{% for x in [1] %}", n) + repeated("{% endfor %}", n),
      repeated("{% set x %}", n) + repeated("{% endset %}", n),
      repeated("{% macro m() %}", n) + repeated("{% endmacro %}", n),
  };
  for (const std::string& source : sources) {
    SCOPED_TRACE(source.substr(0, 30));
    EXPECT_THAT(error_of(source), HasSubstr("deeper than"));
  }
}

TEST(ChatTemplateTest, NestingOfValuesIsBounded) {
  const std::string loop = "{% set n = namespace(x=[]) %}{% for i in range(100000) %}";
  for (const char* step : {"[n.x]", "{'a': n.x}", "(n.x,)", "[n.x] | map('string')", "[n.x].index",
                           "[n.x] | select"}) {
    SCOPED_TRACE(step);
    EXPECT_THAT(error_of(loop + "{% set n.x = " + step + " %}{% endfor %}"),
                HasSubstr("deeper than"));
  }
  EXPECT_THAT(error_of("{% set n = namespace() %}{% for i in range(1000) %}{% for x in [n.x] %}"
                       "{% set n.x = loop %}{% endfor %}{% endfor %}"),
              HasSubstr("deeper than"));
  // Namespaces may hold themselves and each other.
  EXPECT_EQ(render("{% set n = namespace() %}{% set n.x = n %}{% for i in range(10000) %}"
                   "{% set n.y = namespace(y=n.y, x=[n]) %}{% endfor %}{{ n.x.x.y.x[0].y.y is "
                   "defined }}"),
            "True");
}

TEST(ChatTemplateTest, MacrosThatNeverEnd) {
  EXPECT_THAT(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("deeper than"));
  EXPECT_THAT(error_of("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% if true %}"
                       "{{ a() ~ 1 }}{% endif %}{% endmacro %}{{ a() }}"),
              HasSubstr("deeper than"));
}

TEST(ChatTemplateTest, WorkIsBounded) {
  const std::string r = "range(100000)";
  const std::string n = "{% set n = namespace(x='ab', l=['a']) %}";
  const std::string sources[] = {
      "{% for a in " + r + " %}{% for b in " + r + " %}{% for c in " + r +
          " %}{% endfor %}{% endfor %}{% endfor %}",
      n + "{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
      n + "{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
      n + "{% for i in range(99) %}{% set n.l = n.l + n.l %}{% endfor %}",
      n + "{% for i in range(99) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor %}",
      n + "{% for i in range(99) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
      n + "{% for i in range(99) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l | tojson }}",
      n + "{% set k = namespace(l=['a']) %}{% for i in range(99) %}{% set n.l = [n.l, n.l] %}"
          "{% set k.l = [k.l, k.l] %}{% endfor %}{{ n.l == k.l }}",
      "{{ 'a' * 9223372036854775807 }}",
      "{{ [1, 2] * 9223372036854775807 }}",
      "{{ 'a\n' | indent(9223372036854775807) }}",
      "{{ [1] | tojson(indent=9223372036854775807) }}",
      "{{ ([[[1]]] * 1000) | tojson(indent=1000000) }}",
      "{{ ([1] * 100000) | join('a' * 100000) }}",
      "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
      "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
      "{% set s = 'é' * 100000 %}{% for i in " + r + " %}{% if s[50000] %}{% endif %}{% endfor %}",
      "{% set s = 'a' * 1000000 %}{% for i in " + r + " %}{% if 'b' in s %}{% endif %}{% endfor %}",
      "{% set s = 'a' * 1000000 %}{% for i in " + r +
          " %}{% for c in s %}{% break %}{% endfor %}"
          "{% endfor %}",
      "{% set s = 'a' * 100000 %}{% for i in " + r + " %}{{ s }}{% endfor %}",
      "{{ ([1] * 100000) | map('string') | unique | list | length ~ (range(100000) | unique | list "
      "| length) }}",
      "{{ strftime_now('%100000000d') }}",
  };
  for (const std::string& source : sources) {
    SCOPED_TRACE(source.substr(0, 120));
    const std::string error = error_of(source);
    EXPECT_TRUE(error.find("too many steps, or makes too much text") != std::string::npos ||
                error.find("makes too long a text") != std::string::npos)
        << error;
  }
}

// What is found by scanning does not take quadratic time.
TEST(ChatTemplateTest, HostileTextsAreSearchedInLinearTime) {
  const std::string a(1 << 20U, 'a');
  const std::string needle = std::string(1 << 19U, 'a') + "b";
  const Json context = {{"text", a}, {"needle", needle}};
  EXPECT_EQ(render("{{ needle in text }}{{ text.find(needle) }}{{ text.rfind('b' ~ needle[:-1]) }}"
                   "{{ text.split(needle) | length }}{{ text.rsplit('b' ~ needle[:-1]) | length }}"
                   "{{ text.strip(needle) }}",
                   context.dump()),
            "False-1-111");
}

TEST(ChatTemplateTest, CopiesRenderOnManyThreads) {
  const auto chat = ChatTemplate::parse(read_fixture("qwen3.jinja"), "qwen3.jinja");
  const std::vector<ChatMessage> messages = {
      {"user", "1+1?"}, {"assistant", "<think>\nHm\n</think>\n\n2"}, {"user", "2+2?"}};
  const std::string expected = chat.render(messages);
  std::vector<std::string> texts(8);
  std::vector<std::thread> threads;
  for (std::string& text : texts) {
    threads.emplace_back([&text, &messages, chat] {
      for (int i = 0; i < 100; ++i) text = chat.render(messages);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : texts) EXPECT_EQ(text, expected);
}

}  // namespace
}  // namespace metal_candle
