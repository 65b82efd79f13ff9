// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer_config.h"

#include <filesystem>
#include <limits>
#include <string_view>
#include <system_error>

#include "metal_candle/core/error.h"
#include "metal_candle/io/tokenizer/json.h"

namespace metal_candle {

namespace fs = std::filesystem;
using tokenizers::JsonDocument;
using tokenizers::JsonField;

namespace {

// What cannot be looked at counts as there: reading it says why.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) || error;
}

// The file's document; none if there is no such file.
std::optional<JsonDocument> read_if_there(const fs::path& path) {
  if (!is_there(path)) return std::nullopt;
  return JsonDocument::parse(tokenizers::read_text_file(path.string()), path.string());
}

// Tokens are strings, or objects with all properties of an added token.
void read_token(const JsonField& json, std::string_view name, std::optional<std::string>& token) {
  const auto field = json.find(name);
  if (!field || token) return;
  token = std::string(field->is_object() ? field->at("content").string() : field->string());
}

void read_tokens(const JsonField& json, TokenizerConfig& config) {
  read_token(json, "bos_token", config.bos_token);
  read_token(json, "eos_token", config.eos_token);
  read_token(json, "pad_token", config.pad_token);
  read_token(json, "unk_token", config.unk_token);
}

void read_chat_templates(const JsonField& json, std::map<std::string, std::string>& templates) {
  if (json.is_string()) {
    templates["default"] = json.string();
    return;
  }
  if (!json.is_array()) json.fail("is neither a template nor a list of named templates");
  for (const JsonField named : json.items()) {
    const JsonField name = named.at("name");
    const auto [place, is_new] =
        templates.emplace(name.string(), std::string(named.at("template").string()));
    if (!is_new) name.fail("is the name of another template too");
  }
}

void read_chat_template_files(const fs::path& folder,
                              std::map<std::string, std::string>& templates) {
  const fs::path usual = folder / "chat_template.jinja";
  if (is_there(usual)) templates["default"] = tokenizers::read_text_file(usual.string());
  const fs::path additional = folder / "additional_chat_templates";
  if (!is_there(additional)) return;
  std::error_code error;
  for (fs::directory_iterator entry(additional, error); entry != fs::directory_iterator();
       entry.increment(error)) {
    const fs::path& file = entry->path();
    if (file.extension() != ".jinja") continue;
    templates[file.stem().string()] = tokenizers::read_text_file(file.string());
  }
  if (error) throw IoError("cannot read " + additional.string() + ": " + error.message());
}

// False if the file does not say.
bool read_eos_token_ids(const fs::path& path, std::vector<std::int32_t>& ids) {
  const auto document = read_if_there(path);
  if (!document) return false;
  const auto field = document->root().find("eos_token_id");
  if (!field) return false;
  const auto add = [&](const JsonField& id) {
    ids.push_back(
        static_cast<std::int32_t>(id.integer(0, std::numeric_limits<std::int32_t>::max())));
  };
  if (field->is_array()) {
    for (const JsonField id : field->items()) add(id);
  } else {
    add(*field);
  }
  return true;
}

}  // namespace

const std::string* TokenizerConfig::chat_template(const std::string& name) const {
  const auto found = chat_templates.find(name);
  return found == chat_templates.end() ? nullptr : &found->second;
}

TokenizerConfig TokenizerConfig::load(const std::string& folder) {
  TokenizerConfig config;
  const fs::path path(folder);
  if (const auto document = read_if_there(path / "tokenizer_config.json")) {
    const JsonField json = document->root();
    read_tokens(json, config);
    if (const auto flag = json.find("add_bos_token")) config.add_bos_token = flag->boolean();
    if (const auto flag = json.find("add_eos_token")) config.add_eos_token = flag->boolean();
    if (const auto templates = json.find("chat_template")) {
      read_chat_templates(*templates, config.chat_templates);
    }
  }
  if (const auto document = read_if_there(path / "special_tokens_map.json")) {
    read_tokens(document->root(), config);
  }
  read_chat_template_files(path, config.chat_templates);
  if (!read_eos_token_ids(path / "generation_config.json", config.eos_token_ids)) {
    read_eos_token_ids(path / "config.json", config.eos_token_ids);
  }
  return config;
}

}  // namespace metal_candle
