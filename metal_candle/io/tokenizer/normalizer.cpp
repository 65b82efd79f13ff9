// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/normalizer.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/bert_normalizer.h"
#include "metal_candle/io/tokenizer/byte_level.h"
#include "metal_candle/io/tokenizer/pattern.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

class Form final : public Normalizer {
 public:
  explicit Form(NormalForm form) : form_(form) {}
  void apply(NormalizedText& text) const override {
    text.text = normal_form(std::move(text.text), form_);
  }

 private:
  NormalForm form_;
};

class Lowercase final : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string result;
    result.reserve(text.text.size());
    for (std::string_view rest = text.text; !rest.empty();) {
      const auto [code, size] = first_character(rest);
      append_lowercase(result, code);
      rest.remove_prefix(size);
    }
    text.text = std::move(result);
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(NormalizedText& text) const override {
    std::string_view rest = text.text;
    while (right_ && !rest.empty()) {
      const auto [code, size] = last_character(rest);
      if (!is_space(code)) break;
      rest.remove_suffix(size);
    }
    const std::size_t size_before = rest.size();
    while (left_ && !rest.empty()) {
      const auto [code, size] = first_character(rest);
      if (!is_space(code)) break;
      rest.remove_prefix(size);
    }
    if (rest.size() < size_before) text.at_origin = false;
    text.text = std::string(rest);
  }

 private:
  bool left_;
  bool right_;
};

class StripAccents final : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string result;
    for (std::string_view rest = text.text; !rest.empty();) {
      const auto [code, size] = first_character(rest);
      if (!is_mark(code)) {
        result += rest.substr(0, size);
      } else if (result.empty()) {
        text.at_origin = false;
      }
      rest.remove_prefix(size);
    }
    text.text = std::move(result);
  }
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string_view text) : prefix_(text) {}
  void apply(NormalizedText& text) const override {
    if (!text.text.empty()) text.text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class Replace final : public Normalizer {
 public:
  Replace(std::unique_ptr<const Pattern> pattern, std::string_view content)
      : pattern_(std::move(pattern)), content_(content) {}

  void apply(NormalizedText& text) const override {
    std::vector<Range> matches;
    pattern_->find_all(text.text, matches);
    if (matches.empty()) return;
    if (!keeps_origin(text.text, matches.front())) text.at_origin = false;
    std::string result;
    std::size_t end = 0;
    for (const Range& match : matches) {
      result.append(text.text, end, match.begin - end).append(content_);
      end = match.end;
    }
    result.append(text.text, end);
    text.text = std::move(result);
  }

 private:
  // New text counts as coming from the last character that it replaces.
  [[nodiscard]] bool keeps_origin(std::string_view text, const Range& match) const {
    if (match.begin > 0 || match.end == 0) return true;
    return !content_.empty() && first_character(text).size == match.end;
  }

  std::unique_ptr<const Pattern> pattern_;
  std::string content_;
};

class ByteLevel final : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string result;
    append_byte_level(result, text.text);
    text.text = std::move(result);
  }
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<const Normalizer>> steps)
      : steps_(std::move(steps)) {}
  void apply(NormalizedText& text) const override {
    for (const auto& step : steps_) step->apply(text);
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> steps_;
};

std::unique_ptr<const Normalizer> read_sequence(const JsonField& json) {
  json.expect_only({"type", "normalizers"});
  std::vector<std::unique_ptr<const Normalizer>> steps;
  for (const JsonField step : json.at("normalizers").items()) {
    steps.push_back(read_normalizer(step));
  }
  return std::make_unique<Sequence>(std::move(steps));
}

std::unique_ptr<const Normalizer> read_parametrized(const JsonField& json, std::string_view type) {
  if (type == "Strip") {
    json.expect_only({"type", "strip_left", "strip_right"});
    return std::make_unique<Strip>(json.at("strip_left").boolean(),
                                   json.at("strip_right").boolean());
  }
  if (type == "Prepend") {
    json.expect_only({"type", "prepend"});
    return std::make_unique<Prepend>(json.at("prepend").string());
  }
  if (type == "Replace") {
    json.expect_only({"type", "pattern", "content"});
    return std::make_unique<Replace>(read_pattern(json.at("pattern")), json.at("content").string());
  }
  json.at("type").fail(fmt::format(
      "normalizer {} is not supported; supported are NFC, NFD, NFKC, NFKD, Lowercase, Strip, "
      "StripAccents, Prepend, Replace, ByteLevel, BertNormalizer and Sequence",
      quote(type)));
}

std::unique_ptr<const Normalizer> read_plain(std::string_view type) {
  if (type == "NFC") return std::make_unique<Form>(NormalForm::kNfc);
  if (type == "NFD") return std::make_unique<Form>(NormalForm::kNfd);
  if (type == "NFKC") return std::make_unique<Form>(NormalForm::kNfkc);
  if (type == "NFKD") return std::make_unique<Form>(NormalForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  return nullptr;
}

}  // namespace

std::unique_ptr<const Normalizer> read_normalizer(const JsonField& json) {
  const std::string_view type = json.at("type").string();
  if (type == "Sequence") return read_sequence(json);
  if (type == "BertNormalizer") return read_bert_normalizer(json);
  if (auto plain = read_plain(type)) {
    json.expect_only({"type"});
    return plain;
  }
  return read_parametrized(json, type);
}

}  // namespace metal_candle::tokenizers
