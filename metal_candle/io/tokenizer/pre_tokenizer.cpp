// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <cstdint>
#include <string_view>
#include <utility>

#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/byte_level.h"
#include "metal_candle/io/tokenizer/scanner.h"
#include "metal_candle/io/tokenizer/split.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

using Steps = std::vector<std::unique_ptr<const PreTokenizer>>;

// Cuts every word again: cut(text of the word, matches) finds the matches in it.
template <typename Cut>
void cut_words(Words& words, SplitBehavior behavior, bool invert, Cut cut) {
  std::vector<Range> ranges;
  std::vector<Range> matches;
  for (const Range& range : words.ranges) {
    matches.clear();
    cut(std::string_view(words.text).substr(range.begin, range.end - range.begin), matches);
    for (Range& match : matches) match = {match.begin + range.begin, match.end + range.begin};
    split_at(range, matches, behavior, invert, ranges);
  }
  words.at_origin =
      words.at_origin && !ranges.empty() && ranges.front().begin == words.ranges.front().begin;
  words.ranges = std::move(ranges);
}

// Writes every word anew: append(text of the word, whether it is the first at the origin, result).
template <typename Append>
void rewrite_words(Words& words, Append append) {
  std::string text;
  text.reserve(words.text.size() + words.text.size() / 4);
  bool at_origin = words.at_origin;
  for (Range& range : words.ranges) {
    const std::size_t begin = text.size();
    append(std::string_view(words.text).substr(range.begin, range.end - range.begin), at_origin,
           text);
    range = {begin, text.size()};
    at_origin = false;
  }
  words.text = std::move(text);
}

class Split final : public PreTokenizer {
 public:
  Split(std::unique_ptr<const Pattern> pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void apply(Words& words) const override {
    cut_words(words, behavior_, invert_, [&](std::string_view word, std::vector<Range>& matches) {
      pattern_->find_all(word, matches);
    });
  }

 private:
  std::unique_ptr<const Pattern> pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Splits at each character with a property.
class SplitCharacters final : public PreTokenizer {
 public:
  using Property = bool (*)(char32_t);

  SplitCharacters(Property property, SplitBehavior behavior)
      : property_(property), behavior_(behavior) {}
  void apply(Words& words) const override {
    cut_words(words, behavior_, false, [&](std::string_view word, std::vector<Range>& matches) {
      for (std::size_t i = 0; i < word.size();) {
        const auto [code, size] = first_character(word.substr(i));
        if (property_(code)) matches.push_back({i, i + size});
        i += size;
      }
    });
  }

 private:
  Property property_;
  SplitBehavior behavior_;
};

// \w+|[^\w\s]+
class Whitespace final : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    cut_words(words, SplitBehavior::kRemoved, true,
              [](std::string_view word, std::vector<Range>& matches) {
                Kind before = Kind::kSpace;
                for (std::size_t i = 0; i < word.size();) {
                  const auto [code, size] = first_character(word.substr(i));
                  const Kind kind = kind_of(code);
                  if (kind != Kind::kSpace) {
                    if (kind != before) matches.push_back({i, i});
                    matches.back().end = i + size;
                  }
                  before = kind;
                  i += size;
                }
              });
  }

 private:
  enum class Kind : std::uint8_t { kSpace, kWord, kOther };

  static Kind kind_of(char32_t code) {
    if (is_space(code)) return Kind::kSpace;
    return is_word(code) ? Kind::kWord : Kind::kOther;
  }
};

class PrefixSpace final : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    rewrite_words(words, [](std::string_view word, bool, std::string& text) {
      if (!word.starts_with(' ')) text += ' ';
      text += word;
    });
  }
};

class MapBytes final : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    rewrite_words(words, [](std::string_view word, bool, std::string& text) {
      append_byte_level(text, word);
    });
  }
};

class Metaspace final : public PreTokenizer {
 public:
  enum class Prepend : std::uint8_t { kFirst, kNever, kAlways };

  Metaspace(std::string_view replacement, Prepend prepend, bool split)
      : replacement_(replacement), prepend_(prepend), split_(split) {}

  void apply(Words& words) const override {
    rewrite_words(words, [&](std::string_view word, bool at_origin, std::string& text) {
      const bool prepend =
          prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && at_origin);
      if (prepend && !word.starts_with(' ') && !word.starts_with(replacement_)) {
        text += replacement_;
      }
      for (const char c : word) {
        if (c == ' ') {
          text += replacement_;
        } else {
          text += c;
        }
      }
    });
    if (!split_) return;
    cut_words(words, SplitBehavior::kMergedWithNext, false,
              [&](std::string_view word, std::vector<Range>& matches) {
                for (auto i = word.find(replacement_); i != std::string_view::npos;
                     i = word.find(replacement_, i + replacement_.size())) {
                  matches.push_back({i, i + replacement_.size()});
                }
              });
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(Steps steps) : steps_(std::move(steps)) {}
  void apply(Words& words) const override {
    for (const auto& step : steps_) step->apply(words);
  }

 private:
  Steps steps_;
};

ReadPreTokenizer read_byte_level(const JsonField& json) {
  json.expect_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  Steps steps;
  if (json.at("add_prefix_space").boolean()) steps.push_back(std::make_unique<PrefixSpace>());
  if (json.flag("use_regex", true)) {
    steps.push_back(std::make_unique<Split>(make_pattern(regex_of(KnownPattern::kGpt2)),
                                            SplitBehavior::kIsolated, false));
  }
  return {std::make_unique<Sequence>(std::move(steps)), true};
}

std::unique_ptr<const PreTokenizer> read_metaspace(const JsonField& json) {
  json.expect_only(
      {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
  const JsonField replacement = json.at("replacement");
  const std::string_view text = replacement.string();
  if (text.empty() || first_character(text).size != text.size()) {
    replacement.fail(fmt::format("{} is not one character", quote(text)));
  }
  auto prepend = Metaspace::Prepend::kAlways;
  if (const auto scheme = json.find("prepend_scheme")) {
    const std::string_view name = scheme->string();
    if (name == "first") {
      prepend = Metaspace::Prepend::kFirst;
    } else if (name == "never") {
      prepend = Metaspace::Prepend::kNever;
    } else if (name != "always") {
      scheme->fail(fmt::format("{} is none of first, never and always", quote(name)));
    }
  } else if (!json.flag("add_prefix_space", true)) {
    prepend = Metaspace::Prepend::kNever;
  }
  const auto old_flag = json.find("add_prefix_space");
  if (old_flag && !old_flag->boolean() && prepend != Metaspace::Prepend::kNever) {
    old_flag->fail("contradicts prepend_scheme");
  }
  return std::make_unique<Metaspace>(text, prepend, json.flag("split", true));
}

ReadPreTokenizer read_sequence(const JsonField& json) {
  json.expect_only({"type", "pretokenizers"});
  Steps steps;
  bool words_are_bytes = false;
  for (const JsonField step : json.at("pretokenizers").items()) {
    if (words_are_bytes) steps.push_back(std::make_unique<MapBytes>());
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDeleteLeaks): does not see who owns it.
    auto read = read_pre_tokenizer(step);
    steps.push_back(std::move(read.pre_tokenizer));
    words_are_bytes = read.words_are_bytes;
  }
  return {std::make_unique<Sequence>(std::move(steps)), words_are_bytes};
}

std::unique_ptr<const PreTokenizer> read_other(const JsonField& json) {
  const std::string_view type = json.at("type").string();
  if (type == "Metaspace") return read_metaspace(json);
  if (type == "Split") {
    json.expect_only({"type", "pattern", "behavior", "invert"});
    return std::make_unique<Split>(read_pattern(json.at("pattern")),
                                   read_split_behavior(json.at("behavior")),
                                   json.at("invert").boolean());
  }
  if (type == "Digits") {
    json.expect_only({"type", "individual_digits"});
    return std::make_unique<SplitCharacters>(is_number, json.at("individual_digits").boolean()
                                                            ? SplitBehavior::kIsolated
                                                            : SplitBehavior::kContiguous);
  }
  if (type == "Punctuation") {
    json.expect_only({"type", "behavior"});
    const auto behavior = json.find("behavior");
    return std::make_unique<SplitCharacters>(
        is_punctuation, behavior ? read_split_behavior(*behavior) : SplitBehavior::kIsolated);
  }
  if (type == "Whitespace") {
    json.expect_only({"type"});
    return std::make_unique<Whitespace>();
  }
  if (type == "WhitespaceSplit") {
    json.expect_only({"type"});
    return std::make_unique<SplitCharacters>(is_space, SplitBehavior::kRemoved);
  }
  if (type == "BertPreTokenizer") {
    json.expect_only({"type"});
    Steps steps;
    steps.push_back(std::make_unique<SplitCharacters>(is_space, SplitBehavior::kRemoved));
    steps.push_back(std::make_unique<SplitCharacters>(is_punctuation, SplitBehavior::kIsolated));
    return std::make_unique<Sequence>(std::move(steps));
  }
  json.at("type").fail(fmt::format(
      "pre-tokenizer {} is not supported; supported are ByteLevel, Split, Metaspace, Digits, "
      "Whitespace, WhitespaceSplit, Punctuation, BertPreTokenizer and Sequence",
      quote(type)));
}

}  // namespace

ReadPreTokenizer read_pre_tokenizer(const JsonField& json) {
  const std::string_view type = json.at("type").string();
  if (type == "Sequence") return read_sequence(json);
  if (type == "ByteLevel") return read_byte_level(json);
  return {read_other(json), false};
}  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks): as above.

}  // namespace metal_candle::tokenizers
