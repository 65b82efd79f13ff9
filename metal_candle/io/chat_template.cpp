// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/io/chat_template/ast.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/interpreter.h"
#include "metal_candle/io/chat_template/json.h"
#include "metal_candle/io/chat_template/parser.h"
#include "metal_candle/io/chat_template/text.h"
#include "metal_candle/io/chat_template/value.h"

namespace metal_candle {
namespace {

using jinja::Dict;
using jinja::Failure;
using jinja::Sequence;
using jinja::Value;
using Items = std::vector<std::pair<Value, Value>>;
using Time = std::chrono::system_clock::time_point;

Value dict_of(Items items) { return Value(std::make_shared<const Dict>(std::move(items))); }

Value text_of(const std::string& text, const std::string& what) {
  const std::size_t invalid = jinja::find_invalid_utf8(text);
  if (invalid != std::string::npos) {
    throw FormatError(fmt::format("{}: byte {} is not UTF-8", what, invalid));
  }
  return Value(text);
}

Value read_json(std::string_view text, const std::string& what) {
  try {
    return jinja::from_json(text);
  } catch (const Failure& failure) {
    throw FormatError(fmt::format("{}: {}", what, failure.what()));
  }
}

// The reasoning of a message goes by several names, of which a template knows one.
void share_reasoning(Items& message) {
  static constexpr std::array<const char*, 3> kNames = {"reasoning_content", "thinking",
                                                        "reasoning"};
  const Dict known(message);
  for (const char* name : kNames) {
    const Value* reasoning = known.find(name);
    if (reasoning == nullptr) continue;
    const Value text = *reasoning;
    if (known.find("thinking") == nullptr)
      message.insert(message.begin(), {Value("thinking"), text});
    message.emplace_back(Value("reasoning_content"), text);
    return;
  }
}

Value normalize_messages(const Value& messages, const std::string& name) {
  const Sequence* list = messages.if_sequence();
  if (list == nullptr) throw FormatError(name + ": the messages are not a JSON array");
  std::vector<Value> normalized;
  for (const Value& message : list->elements) {
    if (message.if_dict() == nullptr) {
      throw FormatError(
          fmt::format("{}: message {} is not a JSON object", name, normalized.size() + 1));
    }
    Items items;
    for (const auto& item : message.if_dict()->items()) {
      if (!item.second.is_none()) items.push_back(item);
    }
    share_reasoning(items);
    normalized.push_back(dict_of(std::move(items)));
  }
  return Value::list(std::move(normalized));
}

Value make_context(Value messages, const ChatTemplateOptions& options, const std::string& name) {
  Items items;
  if (options.bos_token) {
    items.emplace_back(Value("bos_token"), text_of(*options.bos_token, name + ": bos_token"));
  }
  if (options.eos_token) {
    items.emplace_back(Value("eos_token"), text_of(*options.eos_token, name + ": eos_token"));
  }
  items.emplace_back(Value("messages"), std::move(messages));
  Value tools;
  if (!options.tools.empty()) {
    tools = read_json(options.tools, name + ": tools");
    if (tools.if_sequence() == nullptr) throw FormatError(name + ": tools are not a JSON array");
  }
  items.emplace_back(Value("tools"), std::move(tools));
  items.emplace_back(Value("documents"), Value());
  items.emplace_back(Value("add_generation_prompt"), Value(options.add_generation_prompt));
  if (!options.variables.empty()) {
    const Value more = read_json(options.variables, name + ": variables");
    if (more.if_dict() == nullptr) throw FormatError(name + ": variables are not a JSON object");
    items.insert(items.end(), more.if_dict()->items().begin(), more.if_dict()->items().end());
  }
  return dict_of(std::move(items));
}

FormatError error_at(const std::string& name, const Failure& failure) {
  return FormatError(fmt::format("{}: line {}: {}", name, failure.line, failure.what()));
}

}  // namespace

struct ChatTemplate::Parsed {
  std::string name;
  jinja::Body body;

  [[nodiscard]] std::string render(const Value& context, std::optional<Time> now) const {
    try {
      jinja::Interpreter interpreter(*context.if_dict(),
                                     now.value_or(std::chrono::system_clock::now()));
      return interpreter.render(body);
    } catch (const Failure& failure) {
      throw error_at(name, failure);
    }
  }
};

ChatTemplate ChatTemplate::parse(std::string_view source, std::string name) {
  const std::size_t invalid = jinja::find_invalid_utf8(source);
  if (invalid != std::string::npos) {
    throw FormatError(fmt::format("{}: byte {} is not UTF-8", name, invalid));
  }
  auto parsed = std::make_shared<Parsed>();
  parsed->name = std::move(name);
  try {
    parsed->body = jinja::parse(source);
  } catch (const Failure& failure) {
    throw error_at(parsed->name, failure);
  }
  return ChatTemplate(std::move(parsed));
}

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                 const ChatTemplateOptions& options) const {
  std::vector<Value> list;
  list.reserve(messages.size());
  for (const ChatMessage& message : messages) {
    const std::string what = fmt::format("{}: message {}", name(), list.size() + 1);
    list.push_back(dict_of({{Value("role"), text_of(message.role, what)},
                            {Value("content"), text_of(message.content, what)}}));
  }
  return parsed_->render(make_context(Value::list(std::move(list)), options, name()), options.now);
}

std::string ChatTemplate::render_json(std::string_view messages,
                                      const ChatTemplateOptions& options) const {
  Value list = normalize_messages(read_json(messages, name() + ": messages"), name());
  return parsed_->render(make_context(std::move(list), options, name()), options.now);
}

std::string ChatTemplate::render_context(std::string_view context, std::optional<Time> now) const {
  const Value variables = read_json(context, name() + ": context");
  if (variables.if_dict() == nullptr) throw FormatError(name() + ": not a JSON object");
  return parsed_->render(variables, now);
}

const std::string& ChatTemplate::name() const { return parsed_->name; }

}  // namespace metal_candle
