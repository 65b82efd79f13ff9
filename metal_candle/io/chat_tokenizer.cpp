// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading the files beside tokenizer.json.
#include "metal_candle/io/chat_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "metal_candle/core/error.h"
#include "metal_candle/io/json_object.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

std::optional<JsonObject> read_if_there(const fs::path& path) {
  if (!fs::exists(path)) return std::nullopt;
  return JsonObject::read(path.string());
}

// "</s>", or {"content": "</s>", ...}; null is none.
std::optional<std::string> special_token(const JsonObject& json, std::string_view key) {
  if (!json.has(key)) return std::nullopt;
  if (json.type(key) == "object") return json.object(key).string("content");
  return json.string(key);
}

// The template, or of several named ones that called "default".
std::optional<ChatTemplate> chat_template_of(const JsonObject& json) {
  constexpr const char* kKey = "chat_template";
  if (!json.has(kKey)) return std::nullopt;
  if (json.type(kKey) == "string") return ChatTemplate::parse(json.string(kKey), json.where(kKey));
  for (const JsonObject& named : json.objects(kKey)) {
    if (named.string("name") == "default")
      return ChatTemplate::parse(named.string("template"), named.where("template"));
  }
  throw FormatError(
      fmt::format("{}: none of the templates is called \"default\"", json.where(kKey)));
}

std::optional<ChatTemplate> chat_template_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad()) throw IoError(fmt::format("{}: cannot read it", path.string()));
  return ChatTemplate::parse(text.str(), path.string());
}

void add_eos_ids(const std::optional<JsonObject>& json, std::vector<std::int32_t>& ids) {
  constexpr const char* kKey = "eos_token_id";
  if (!json || !json->has(kKey)) return;
  if (json->type(kKey) == "array") {
    for (const double id : json->numbers(kKey)) ids.push_back(static_cast<std::int32_t>(id));
  } else {
    ids.push_back(static_cast<std::int32_t>(json->integer(kKey)));
  }
}

}  // namespace

ChatTokenizer ChatTokenizer::load(const std::string& folder) {
  const fs::path path = folder;
  ChatTokenizer result(Tokenizer::load(folder));
  const auto config = read_if_there(path / "tokenizer_config.json");
  result.chat_template_ = chat_template_file(path / "chat_template.jinja");
  if (config) {
    result.bos_token_ = special_token(*config, "bos_token");
    result.eos_token_ = special_token(*config, "eos_token");
    if (!result.chat_template_) result.chat_template_ = chat_template_of(*config);
  }
  if (result.eos_token_) {
    result.eos_id_ = result.tokenizer_.token_to_id(*result.eos_token_);
    if (!result.eos_id_) {
      throw FormatError(fmt::format("{}: \"{}\" is not in the vocabulary of tokenizer.json",
                                    config->where("eos_token"), *result.eos_token_));
    }
    result.stop_ids_.push_back(*result.eos_id_);
  }
  const std::size_t own = result.stop_ids_.size();
  add_eos_ids(read_if_there(path / "generation_config.json"), result.stop_ids_);
  add_eos_ids(read_if_there(path / "config.json"), result.stop_ids_);
  // Without a tokenizer_config.json, training texts end with what ends generation.
  if (own == 0 && !config && !result.stop_ids_.empty()) result.eos_id_ = result.stop_ids_[0];
  std::sort(result.stop_ids_.begin(), result.stop_ids_.end());
  result.stop_ids_.erase(std::unique(result.stop_ids_.begin(), result.stop_ids_.end()),
                         result.stop_ids_.end());
  return result;
}

std::vector<std::int32_t> ChatTokenizer::encode(std::string_view text) const {
  return tokenizer_.encode(text);
}

std::string ChatTokenizer::render_chat(const ChatRequest& request) const {
  if (!chat_template_) {
    throw FormatError(
        "this model has no chat template (chat_template in tokenizer_config.json, or "
        "chat_template.jinja); give it a plain prompt");
  }
  ChatTemplateOptions options;
  options.add_generation_prompt = request.add_generation_prompt;
  options.bos_token = bos_token_;
  options.eos_token = eos_token_;
  options.tools = request.tools;
  options.variables = request.variables;
  return request.messages_json.empty()
             ? chat_template_->render(request.messages, options)
             : chat_template_->render_json(request.messages_json, options);
}

std::vector<std::int32_t> ChatTokenizer::encode_chat(const ChatRequest& request) const {
  return tokenizer_.encode(render_chat(request), /*add_special_tokens=*/false);
}

}  // namespace metal_candle
