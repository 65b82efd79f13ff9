// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading training data.
#include "metal_candle/io/jsonl.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

class LineReader {
 public:
  LineReader(const std::string& path, std::size_t line) : path_(path), line_(line) {}

  Example read(const std::string& text) const {
    const ordered_json object = parse(text);
    Example example;
    example.line = line_;
    if (object.contains("messages")) {
      read_chat(object, example);
    } else if (object.contains("prompt") || object.contains("completion")) {
      example.form = ExampleForm::kCompletion;
      example.prompt = string(object, "prompt");
      example.completion = string(object, "completion");
    } else if (object.contains("text")) {
      example.form = ExampleForm::kText;
      example.text = string(object, "text");
    } else {
      fail("expected a key \"text\", keys \"prompt\" and \"completion\", or a key \"messages\"");
    }
    return example;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(fmt::format("{}:{}: {}", path_, line_, what));
  }

 private:
  ordered_json parse(const std::string& text) const {
    ordered_json object;
    try {
      object = ordered_json::parse(text);
    } catch (const json::exception& error) {
      // Without the library's own prefix, "[json.exception.parse_error.101] ".
      std::string_view reason = error.what();
      if (const auto end = reason.find("] "); end != std::string_view::npos)
        reason.remove_prefix(end + 2);
      fail(fmt::format("not valid JSON in UTF-8: {}", reason));
    }
    if (!object.is_object())
      fail(fmt::format("expected a JSON object, found {}", object.type_name()));
    return object;
  }

  std::string string(const ordered_json& object, const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) fail(fmt::format("\"{}\" is missing", key));
    if (!found->is_string())
      fail(fmt::format("\"{}\": expected a string, found {}", key, found->type_name()));
    return found->get<std::string>();
  }

  void read_chat(const ordered_json& object, Example& example) const {
    example.form = ExampleForm::kChat;
    const ordered_json& messages = object.at("messages");
    if (!messages.is_array() || messages.empty())
      fail("\"messages\": expected a list of messages, with at least one");
    for (const ordered_json& message : messages) {
      if (!message.is_object()) {
        fail(fmt::format("\"messages\": expected objects with a role and a content, found {}",
                         message.type_name()));
      }
      static_cast<void>(string(message, "role"));
    }
    example.messages = messages.dump();
    example.ends_with_assistant = messages.back().at("role") == "assistant";
    ordered_json request = messages;
    request.erase(request.size() - 1);
    example.request = request.dump();
    if (const auto tools = object.find("tools"); tools != object.end() && !tools->is_null()) {
      if (!tools->is_array()) fail("\"tools\": expected a list");
      example.tools = tools->dump();
    }
  }

  const std::string& path_;
  std::size_t line_;
};

}  // namespace

const char* name(ExampleForm form) {
  switch (form) {
    case ExampleForm::kText:
      return "text";
    case ExampleForm::kCompletion:
      return "prompt and completion";
    case ExampleForm::kChat:
      break;
  }
  return "messages";
}

std::vector<Example> read_examples(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw IoError(fmt::format("{}: {}", path, std::strerror(errno)));
  std::vector<Example> examples;
  std::string text;
  for (std::size_t number = 1; std::getline(file, text); ++number) {
    if (number == 1 && text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);  // A byte order mark.
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const LineReader reader(path, number);
    examples.push_back(reader.read(text));
    if (examples.back().form != examples.front().form) {
      reader.fail(fmt::format("has {}, but line {} has {}: a file is of one form",
                              name(examples.back().form), examples.front().line,
                              name(examples.front().form)));
    }
  }
  if (file.bad()) throw IoError(fmt::format("{}: {}", path, std::strerror(errno)));
  if (examples.empty()) throw FormatError(fmt::format("{}: there is no example in it", path));
  return examples;
}

}  // namespace metal_candle
