// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/bert_normalizer.h"

#include <string>
#include <string_view>
#include <utility>

#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

// The blocks of CJK ideographs that BERT puts spaces around. Its list is not Unicode's.
bool is_ideograph(char32_t code) {
  return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
         (code >= 0x20000 && code <= 0x2A6DF) || (code >= 0x2A700 && code <= 0x2B73F) ||
         (code >= 0x2B740 && code <= 0x2B81F) || (code >= 0x2B920 && code <= 0x2CEAF) ||
         (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x2F800 && code <= 0x2FA1F);
}

class BertNormalizer final : public Normalizer {
 public:
  struct Options {
    bool clean_text;
    bool space_ideographs;
    bool strip_accents;
    bool lowercase;
  };

  explicit BertNormalizer(Options options) : options_(options) {}

  void apply(NormalizedText& text) const override {
    if (options_.clean_text) rewrite(text, clean);
    if (options_.space_ideographs) rewrite(text, space_ideograph);
    if (options_.strip_accents) {
      text.text = normal_form(std::move(text.text), NormalForm::kNfd);
      rewrite(text, strip_accent);
    }
    if (options_.lowercase) rewrite(text, append_lowercase);
  }

 private:
  // Puts what `append` makes of each character in its place.
  static void rewrite(NormalizedText& text, void (*append)(std::string&, char32_t)) {
    std::string result;
    result.reserve(text.text.size());
    for (std::string_view rest = text.text; !rest.empty();) {
      const auto [code, size] = first_character(rest);
      append(result, code);
      if (result.empty()) text.at_origin = false;
      rest.remove_prefix(size);
    }
    text.text = std::move(result);
  }

  static void clean(std::string& result, char32_t code) {
    if (is_space(code) && code != 0x0B && code != 0x0C && code != 0x85) {
      result += ' ';
    } else if (code != 0xFFFD && !is_control(code)) {
      append_utf8(result, code);
    }
  }
  static void space_ideograph(std::string& result, char32_t code) {
    if (is_ideograph(code)) result += ' ';
    append_utf8(result, code);
    if (is_ideograph(code)) result += ' ';
  }
  static void strip_accent(std::string& result, char32_t code) {
    if (!is_nonspacing_mark(code)) append_utf8(result, code);
  }

  Options options_;
};

}  // namespace

std::unique_ptr<const Normalizer> read_bert_normalizer(const JsonField& json) {
  json.expect_only({"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
  const bool lowercase = json.at("lowercase").boolean();
  return std::make_unique<BertNormalizer>(
      BertNormalizer::Options{.clean_text = json.at("clean_text").boolean(),
                              .space_ideographs = json.at("handle_chinese_chars").boolean(),
                              .strip_accents = json.flag("strip_accents", lowercase),
                              .lowercase = lowercase});
}

}  // namespace metal_candle::tokenizers
