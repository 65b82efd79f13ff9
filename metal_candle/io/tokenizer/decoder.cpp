// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/decoder.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/byte_level.h"
#include "metal_candle/io/tokenizer/pattern.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

constexpr std::string_view kReplacementCharacter = "\uFFFD";

// Gives a class derived from DecoderStep its clone().
template <typename Step>
class Cloned : public DecoderStep {
 public:
  [[nodiscard]] std::unique_ptr<DecoderStep> clone() const override {
    return std::make_unique<Step>(static_cast<const Step&>(*this));
  }
};

class JoinWithSpaces final : public Cloned<JoinWithSpaces> {
 public:
  void push(std::string&& token, Output& output) override {
    output.push_back(first_ ? std::move(token) : " " + token);
    first_ = false;
  }

 private:
  bool first_ = true;
};

// What comes is the text, so there is nothing to do: the steps behind know.
class Fuse final : public Cloned<Fuse> {
 public:
  void push(std::string&& token, Output& output) override { output.push_back(std::move(token)); }
};

// Byte-level characters become bytes, and these text.
class ByteLevel final : public Cloned<ByteLevel> {
 public:
  void push(std::string&& token, Output& output) override {
    append_bytes_of(bytes_, token);
    std::string text;
    std::string_view rest = bytes_;
    while (!rest.empty()) {
      const auto step = next_utf8(rest);
      if (step.kind == Utf8Step::Kind::kIncomplete) break;
      text += step.kind == Utf8Step::Kind::kCharacter ? rest.substr(0, step.size)
                                                      : kReplacementCharacter;
      rest.remove_prefix(step.size);
    }
    bytes_.erase(0, bytes_.size() - rest.size());
    output.push_back(std::move(text));
  }
  void finish(Output& output) override {
    if (!bytes_.empty()) output.emplace_back(kReplacementCharacter);
  }

 private:
  std::string bytes_;  // the beginning of a character
};

// Runs of tokens such as <0xE2> become text, or one U+FFFD a byte if the run as a whole is no text:
// so it waits for the run's end.
class ByteFallback final : public Cloned<ByteFallback> {
 public:
  void push(std::string&& token, Output& output) override {
    if (const auto byte = byte_of(token)) {
      bytes_.push_back(*byte);
    } else {
      finish(output);
      output.push_back(std::move(token));
    }
  }
  void finish(Output& output) override {
    if (bytes_.empty()) return;
    if (is_utf8(bytes_)) {
      output.push_back(bytes_);
    } else {
      output.insert(output.end(), bytes_.size(), std::string(kReplacementCharacter));
    }
    bytes_.clear();
  }

 private:
  static std::optional<char> byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return {};
    std::uint8_t byte = 0;
    const char* const end = token.data() + 5;
    const auto result = std::from_chars(token.data() + 3, end, byte, 16);
    if (result.ec != std::errc{} || result.ptr != end) return {};
    return static_cast<char>(byte);
  }

  std::string bytes_;
};

class Metaspace final : public Cloned<Metaspace> {
 public:
  Metaspace(std::string_view replacement, bool strips_first)
      : replacement_(replacement), strips_(strips_first) {}
  void push(std::string&& token, Output& output) override {
    std::string text;
    std::size_t done = 0;
    for (std::size_t i = 0; (i = token.find(replacement_, done)) != std::string::npos;) {
      text.append(token, done, i - done);
      if (!strips_) text += ' ';
      done = i + replacement_.size();
    }
    output.push_back(text.append(token, done));
    strips_ = false;
  }

 private:
  std::string replacement_;
  bool strips_;  // the next token is the first, and its metaspaces go
};

class Replace final : public Cloned<Replace> {
 public:
  Replace(std::shared_ptr<const Pattern> pattern, std::string_view content)
      : pattern_(std::move(pattern)), content_(content) {}
  void push(std::string&& token, Output& output) override {
    std::vector<Range> matches;
    pattern_->find_all(token, matches);
    std::string text;
    std::size_t done = 0;
    for (const Range& match : matches) {
      text.append(token, done, match.begin - done).append(content_);
      done = match.end;
    }
    output.push_back(text.append(token, done));
  }

 private:
  std::shared_ptr<const Pattern> pattern_;
  std::string content_;
};

// Takes up to `start` and `stop` characters `content` off both ends: of every token, or of the text
// if it is fused.
class Strip final : public Cloned<Strip> {
 public:
  Strip(std::string_view content, std::size_t start, std::size_t stop, bool fused)
      : content_(content), start_(start), stop_(stop), fused_(fused), start_left_(start) {}

  void push(std::string&& token, Output& output) override {
    std::string text;
    for (std::string_view rest = token; !rest.empty();) {
      const std::string_view character = rest.substr(0, first_character(rest).size);
      rest.remove_prefix(character.size());
      take(character, text);
    }
    output.push_back(std::move(text));
    if (fused_) return;
    start_left_ = start_;
    held_ = 0;
  }

 private:
  void take(std::string_view character, std::string& text) {
    if (character != content_) {
      for (; held_ > 0; --held_) text += content_;
      start_left_ = 0;
      text += character;
    } else if (start_left_ > 0) {
      --start_left_;
    } else if (held_ < stop_) {
      ++held_;
    } else {
      text += content_;
    }
  }

  std::string content_;
  std::size_t start_;
  std::size_t stop_;
  bool fused_;
  std::size_t start_left_;
  std::size_t held_ = 0;  // how many there were lately that may be the last
};

// Tokens that do not begin a word lose their prefix, the others get a space before them.
class WordPieceStep final : public Cloned<WordPieceStep> {
 public:
  WordPieceStep(std::string_view prefix, bool clean_up) : prefix_(prefix), clean_up_(clean_up) {}
  void push(std::string&& token, Output& output) override {
    if (first_) {
      first_ = false;
    } else if (token.starts_with(prefix_)) {
      token.erase(0, prefix_.size());
    } else {
      token.insert(0, " ");
    }
    if (clean_up_) clean_up(token);
    output.push_back(std::move(token));
  }

 private:
  // What BERT's words are put together by, in this order.
  static void clean_up(std::string& token) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kReplacements = {
        {{" .", "."},
         {" ?", "?"},
         {" !", "!"},
         {" ,", ","},
         {" ' ", "'"},
         {" n't", "n't"},
         {" 'm", "'m"},
         {" do not", " don't"},
         {" 's", "'s"},
         {" 've", "'ve"},
         {" 're", "'re"}}};
    for (const auto& [from, to] : kReplacements) {
      for (auto i = token.find(from); i != std::string::npos; i = token.find(from, i + to.size())) {
        token.replace(i, from.size(), to);
      }
    }
  }

  std::string prefix_;
  bool clean_up_;
  bool first_ = true;
};

// A step that can only be done to the text as a whole.
class OnWholeText final : public DecoderStep {
 public:
  explicit OnWholeText(std::unique_ptr<DecoderStep> step) : step_(std::move(step)) {}
  void push(std::string&& token, Output& /*output*/) override { text_ += token; }
  void finish(Output& output) override {
    step_->push(std::move(text_), output);
    step_->finish(output);
  }
  [[nodiscard]] std::unique_ptr<DecoderStep> clone() const override {
    return std::make_unique<OnWholeText>(step_->clone());
  }

 private:
  std::unique_ptr<DecoderStep> step_;
  std::string text_;
};

std::string_view character_at(const JsonField& json, std::string_view name) {
  const JsonField field = json.at(name);
  const std::string_view text = field.string();
  if (text.empty() || first_character(text).size != text.size()) {
    field.fail(fmt::format("{} is not one character", quote(text)));
  }
  return text;
}

}  // namespace

Decoder::Decoder() { steps_.push_back(std::make_unique<JoinWithSpaces>()); }

Decoder::Decoder(const JsonField& json) { read(json); }

Decoder::Decoder(const Decoder& other) : fused_(other.fused_) {
  for (const auto& step : other.steps_) steps_.push_back(step->clone());
}

void Decoder::read(const JsonField& json) {
  const std::string_view type = json.at("type").string();
  if (type != "Sequence") {
    read_step(json, type);
    return;
  }
  json.expect_only({"type", "decoders"});
  for (const JsonField step : json.at("decoders").items()) read(step);
}

void Decoder::read_step(const JsonField& json, std::string_view type) {
  if (type == "ByteLevel") {
    json.expect_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    add(std::make_unique<ByteLevel>());
    fused_ = true;
  } else if (type == "Fuse") {
    json.expect_only({"type"});
    if (!fused_) add(std::make_unique<Fuse>());
    fused_ = true;
  } else if (type == "ByteFallback") {
    json.expect_only({"type"});
    add(std::make_unique<ByteFallback>());
  } else if (type == "Metaspace") {
    json.expect_only(
        {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
    const auto scheme = json.find("prepend_scheme");
    const bool never = scheme ? scheme->string() == "never" : !json.flag("add_prefix_space", true);
    add(std::make_unique<Metaspace>(character_at(json, "replacement"), !never));
  } else if (type == "Replace") {
    json.expect_only({"type", "pattern", "content"});
    add(std::make_unique<Replace>(read_pattern(json.at("pattern")), json.at("content").string()));
  } else if (type == "WordPiece") {
    json.expect_only({"type", "prefix", "cleanup"});
    add(std::make_unique<WordPieceStep>(json.at("prefix").string(), json.flag("cleanup", true)));
  } else if (type == "Strip") {
    json.expect_only({"type", "content", "start", "stop"});
    const auto count = [&](std::string_view name) {
      return static_cast<std::size_t>(json.at(name).integer(0, INT32_MAX));
    };
    steps_.push_back(std::make_unique<Strip>(character_at(json, "content"), count("start"),
                                             count("stop"), fused_));
  } else {
    json.at("type").fail(
        fmt::format("decoder {} is not supported; supported are ByteLevel, "
                    "Metaspace, ByteFallback, Fuse, Replace, Strip, WordPiece and Sequence",
                    quote(type)));
  }
}

void Decoder::add(std::unique_ptr<DecoderStep> step) {
  if (fused_) step = std::make_unique<OnWholeText>(std::move(step));
  steps_.push_back(std::move(step));
}

std::string Decoder::run(DecoderStep::Output tokens, bool finish) {
  for (const auto& step : steps_) {
    DecoderStep::Output output;
    for (std::string& token : tokens) step->push(std::move(token), output);
    if (finish) step->finish(output);
    tokens = std::move(output);
  }
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

std::string Decoder::push(std::string_view token) {
  DecoderStep::Output tokens;
  tokens.emplace_back(token);
  return run(std::move(tokens), false);
}

std::string Decoder::finish() { return run({}, true); }

}  // namespace metal_candle::tokenizers
