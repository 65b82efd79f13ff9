// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/scanner.h"

#include <array>

#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

// What the patterns tell apart: \p{L}, \p{N}, [\r\n], the rest of \s, and everything else.
enum class Class : std::uint8_t { kLetter, kNumber, kNewline, kSpace, kOther };

Class classify(char32_t code) {
  if (code == '\r' || code == '\n') return Class::kNewline;
  if (is_space(code)) return Class::kSpace;
  if (is_letter(code)) return Class::kLetter;
  return is_number(code) ? Class::kNumber : Class::kOther;
}

constexpr std::array<Class, 128> make_ascii_classes() {
  std::array<Class, 128> classes{};
  for (char32_t c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool number = c >= '0' && c <= '9';
    const bool newline = c == '\r' || c == '\n';
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    classes[c] = letter    ? Class::kLetter
                 : number  ? Class::kNumber
                 : newline ? Class::kNewline
                 : space   ? Class::kSpace
                           : Class::kOther;
  }
  return classes;
}

constexpr auto kAsciiClasses = make_ascii_classes();

// A text, read at positions.
class Scan {
 public:
  explicit Scan(std::string_view text) : text_(text) {}

  struct Step {
    Class kind;
    std::size_t end;  // of the character
  };

  [[nodiscard]] bool at_end(std::size_t i) const { return i == text_.size(); }
  [[nodiscard]] bool is(std::size_t i, char c) const { return i < text_.size() && text_[i] == c; }

  [[nodiscard]] Step step(std::size_t i) const {
    const auto byte = static_cast<std::uint8_t>(text_[i]);
    if (byte < 128) return {kAsciiClasses[byte], i + 1};
    const auto [code, size] = first_character(text_.substr(i));
    return {classify(code), i + size};
  }
  [[nodiscard]] bool is(std::size_t i, Class kind) const {
    return i < text_.size() && step(i).kind == kind;
  }
  // The end of the run of at most `most` characters of a class that begins at i, perhaps i itself.
  [[nodiscard]] std::size_t run(std::size_t i, Class kind, std::size_t most = SIZE_MAX) const {
    for (; i < text_.size() && most > 0; --most) {
      const auto [here, end] = step(i);
      if (here != kind) break;
      i = end;
    }
    return i;
  }

  // \s+(?!\S)|\s+ at a space; and before them \s*[\r\n]+ if `lines`.
  [[nodiscard]] std::size_t spaces(std::size_t begin, bool lines) const {
    std::size_t end = begin;
    std::size_t last = begin;  // where the last character of the run begins
    std::size_t newline_end = begin;
    while (end < text_.size()) {
      const auto [kind, next] = step(end);
      if (kind != Class::kSpace && kind != Class::kNewline) break;
      if (kind == Class::kNewline) newline_end = next;
      last = end;
      end = next;
    }
    if (lines && newline_end > begin) return newline_end;
    return at_end(end) || last == begin ? end : last;
  }

  // 's|'t|'re|'ve|'m|'ll|'d; begin if it is none.
  [[nodiscard]] std::size_t contraction(std::size_t begin, bool any_case) const {
    if (!is(begin, '\'')) return begin;
    const auto letter = [&](std::size_t i) -> char {
      if (i >= text_.size()) return 0;
      const char c = text_[i];
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    const char first = letter(begin + 1);
    const char second = letter(begin + 2);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return begin + 2;
    if (second == 'e' && (first == 'r' || first == 'v')) return begin + 3;
    if (second == 'l' && first == 'l') return begin + 3;
    // The long s is an s of another case.
    if (any_case && text_.substr(begin + 1).starts_with("\u017F")) return begin + 3;
    return begin;
  }

 private:
  std::string_view text_;
};

std::size_t scan_gpt2(const Scan& scan, std::size_t begin) {
  const std::size_t contraction = scan.contraction(begin, false);
  if (contraction > begin) return contraction;
  const std::size_t body = scan.is(begin, ' ') ? begin + 1 : begin;
  if (!scan.at_end(body)) {
    const auto [kind, end] = scan.step(body);
    if (kind != Class::kSpace && kind != Class::kNewline) return scan.run(end, kind);
  }
  return scan.spaces(begin, false);
}

// Llama 3 and Qwen 2 differ in how many digits go together.
std::size_t scan_llama3(const Scan& scan, std::size_t begin, std::size_t most_digits) {
  const std::size_t contraction = scan.contraction(begin, true);
  if (contraction > begin) return contraction;
  const auto [kind, end] = scan.step(begin);
  if (kind == Class::kLetter) return scan.run(end, Class::kLetter);
  if (kind == Class::kNumber) return scan.run(begin, Class::kNumber, most_digits);
  if (kind != Class::kNewline && scan.is(end, Class::kLetter)) {
    return scan.run(end, Class::kLetter);
  }
  const std::size_t body = scan.is(begin, ' ') ? begin + 1 : begin;
  if (scan.is(body, Class::kOther)) {
    return scan.run(scan.run(body, Class::kOther), Class::kNewline);
  }
  return scan.spaces(begin, true);
}

}  // namespace

std::string_view regex_of(KnownPattern pattern) {
  switch (pattern) {
    case KnownPattern::kGpt2:
      return R"re('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)re";
    case KnownPattern::kLlama3:
      return R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)re"
             R"re( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
    case KnownPattern::kQwen2:
      return R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)re"
             R"re( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
  }
  return {};
}

std::optional<KnownPattern> known_pattern(std::string_view regex) {
  for (const auto pattern : {KnownPattern::kGpt2, KnownPattern::kLlama3, KnownPattern::kQwen2}) {
    if (regex == regex_of(pattern)) return pattern;
  }
  return std::nullopt;
}

std::size_t scan_word(KnownPattern pattern, std::string_view text, std::size_t begin) {
  const Scan scan(text);
  switch (pattern) {
    case KnownPattern::kGpt2:
      return scan_gpt2(scan, begin);
    case KnownPattern::kLlama3:
      return scan_llama3(scan, begin, 3);
    case KnownPattern::kQwen2:
      return scan_llama3(scan, begin, 1);
  }
  return text.size();
}

}  // namespace metal_candle::tokenizers
