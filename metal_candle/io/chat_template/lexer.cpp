// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <system_error>

#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/string_literal.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

constexpr auto kNone = std::string_view::npos;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

// Lines end with "\n" alone, and the last one does not end.
std::string normalize_lines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) lex_text();
    add(Token::Kind::kEnd);
    return std::move(tokens_);
  }

 private:
  [[nodiscard]] bool looking_at(std::string_view text) const {
    return source_.substr(position_).starts_with(text);
  }
  [[nodiscard]] char at(std::size_t offset) const {
    return position_ + offset < source_.size() ? source_[position_ + offset] : '\0';
  }
  [[noreturn]] void fail(const std::string& message) const { throw Failure(message, line_); }

  Token& add(Token::Kind kind, std::string text = "") {
    Token& token = tokens_.emplace_back();
    token.kind = kind;
    token.text = std::move(text);
    token.line = line_;
    return token;
  }

  std::string_view consume(std::size_t size) {
    const auto text = source_.substr(position_, size);
    line_ += static_cast<int>(std::count(text.begin(), text.end(), '\n'));
    position_ += text.size();
    return text;
  }

  void skip_space() {
    const auto rest = source_.substr(position_);
    consume(rest.size() - strip(rest, Side::kLeft).size());
  }

  // The end of a tag, after its sign if it has one: "-" strips the white space that follows, a
  // block or comment without a sign takes the rest of an otherwise empty line.
  void end_tag(std::string_view end, char sign, bool trims_line) {
    consume((sign == '\0' ? 0 : 1) + end.size());
    const std::size_t before = position_;
    if (sign == '-') {
      skip_space();
    } else if (sign == '\0' && trims_line && at(0) == '\n') {
      consume(1);
    }
    // Otherwise the text that follows does not begin a line.
    starts_line_ = position_ > before && source_[position_ - 1] == '\n';
  }

  std::size_t find_tag() const;
  void add_text(std::string_view text, char sign, bool is_output);
  void lex_text();
  void lex_comment();
  std::optional<std::size_t> raw_tag_size(std::string_view name) const;
  void lex_raw();
  void lex_tag(std::string_view end, Token::Kind end_kind, bool trims_line);
  bool lex_tag_end(std::string_view end, Token::Kind end_kind, bool trims_line);
  void lex_token();
  void lex_string();
  void lex_number();
  std::string digits(std::size_t& offset, bool (*belongs)(char)) const;
  void lex_operator();

  std::string_view source_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool starts_line_ = true;
  std::vector<Token> tokens_;
  std::string brackets_;  // Those open in the current tag.
};

std::size_t Lexer::find_tag() const {
  for (std::size_t i = position_; (i = source_.find('{', i)) != kNone; ++i) {
    const char next = i + 1 < source_.size() ? source_[i + 1] : '\0';
    if (next == '%' || next == '{' || next == '#') return i;
  }
  return kNone;
}

// Adds the text before a tag. A "-" strips the white space at its end; without a sign, what
// indents a block or comment is stripped.
void Lexer::add_text(std::string_view text, char sign, bool is_output) {
  std::string_view kept = text;
  if (sign == '-') {
    kept = strip(text, Side::kRight);
  } else if (sign != '+' && !is_output) {
    const std::size_t line_break = text.rfind('\n');
    const std::size_t line_start = line_break == kNone ? 0 : line_break + 1;
    const bool begins = line_start > 0 || starts_line_;
    if (begins && strip(text.substr(line_start), Side::kLeft).empty()) {
      kept = text.substr(0, line_start);
    }
  }
  if (!kept.empty()) add(Token::Kind::kText, std::string(kept));
  consume(text.size());
}

void Lexer::lex_text() {
  const std::size_t tag = find_tag();
  if (tag == kNone) {
    add(Token::Kind::kText, std::string(source_.substr(position_)));
    consume(source_.size() - position_);
    return;
  }
  const char kind = source_[tag + 1];
  char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
  if (sign != '-' && sign != '+') sign = '\0';
  add_text(source_.substr(position_, tag - position_), sign, kind == '{');
  if (kind == '%' && raw_tag_size("raw")) {
    lex_raw();
    return;
  }
  const int begin = line_;
  consume(sign == '\0' ? 2 : 3);
  if (kind == '#') {
    lex_comment();
    return;
  }
  add(kind == '%' ? Token::Kind::kBlockBegin : Token::Kind::kOutputBegin).line = begin;
  if (kind == '%') {
    lex_tag("%}", Token::Kind::kBlockEnd, true);
  } else {
    lex_tag("}}", Token::Kind::kOutputEnd, false);
  }
}

void Lexer::lex_comment() {
  std::size_t end = source_.find("#}", position_);
  if (end == kNone) fail("a comment does not end: '#}' is missing");
  const char before = end > position_ ? source_[end - 1] : '\0';
  const char sign = before == '-' || before == '+' ? before : '\0';
  if (sign != '\0') --end;
  consume(end - position_);
  end_tag("#}", sign, true);
}

// The size of `{% name %}` with its signs, when it is at the current position.
std::optional<std::size_t> Lexer::raw_tag_size(std::string_view name) const {
  std::string_view rest = source_.substr(position_);
  const std::size_t whole = rest.size();
  if (!rest.starts_with("{%")) return std::nullopt;
  rest.remove_prefix(2);
  if (rest.starts_with('-') || rest.starts_with('+')) rest.remove_prefix(1);
  rest = strip(rest, Side::kLeft);
  if (!rest.starts_with(name)) return std::nullopt;
  rest = strip(rest.substr(name.size()), Side::kLeft);
  const bool has_sign = rest.starts_with('-') || (name == "endraw" && rest.starts_with('+'));
  if (!rest.substr(has_sign ? 1 : 0).starts_with("%}")) return std::nullopt;
  return whole - rest.size() + (has_sign ? 3 : 2);
}

void Lexer::lex_raw() {
  const auto opening = consume(*raw_tag_size("raw"));
  starts_line_ = false;
  if (opening[opening.size() - 3] == '-') {
    const std::size_t before = position_;
    skip_space();
    starts_line_ = position_ > before && source_[position_ - 1] == '\n';
  }
  const std::size_t begin = position_;
  for (std::size_t i = begin; (i = source_.find("{%", i)) != kNone; ++i) {
    position_ = i;
    const auto size = raw_tag_size("endraw");
    position_ = begin;
    if (!size) continue;
    const char sign = source_[i + 2];
    add_text(source_.substr(begin, i - begin), sign, false);
    const char end_sign = source_[i + *size - 3];
    const bool has_sign = end_sign == '-' || end_sign == '+';
    consume(*size - (has_sign ? 3 : 2));
    end_tag("%}", has_sign ? end_sign : '\0', true);
    return;
  }
  fail("a raw block does not end: '{% endraw %}' is missing");
}

bool Lexer::lex_tag_end(std::string_view end, Token::Kind end_kind, bool trims_line) {
  // Inside brackets, what looks like the end is two operators.
  if (!brackets_.empty()) return false;
  char sign = at(0);
  if (sign != '-' && (sign != '+' || !trims_line)) sign = '\0';
  if (!source_.substr(position_ + (sign == '\0' ? 0 : 1)).starts_with(end)) return false;
  add(end_kind);
  end_tag(end, sign, trims_line);
  return true;
}

void Lexer::lex_tag(std::string_view end, Token::Kind end_kind, bool trims_line) {
  const int begin = line_;
  brackets_.clear();
  while (true) {
    skip_space();
    if (position_ >= source_.size()) {
      throw Failure(fmt::format("a tag does not end: '{}' is missing", end), begin);
    }
    if (lex_tag_end(end, end_kind, trims_line)) return;
    lex_token();
  }
}

void Lexer::lex_token() {
  const char c = at(0);
  if (is_digit(c)) {
    lex_number();
  } else if (is_name_start(c)) {
    std::size_t size = 1;
    while (is_name_start(at(size)) || is_digit(at(size))) ++size;
    add(Token::Kind::kName, std::string(source_.substr(position_, size)));
    consume(size);
  } else if (c == '"' || c == '\'') {
    lex_string();
  } else {
    lex_operator();
  }
}

void Lexer::lex_string() {
  const char quote = at(0);
  std::size_t size = 1;
  while (at(size) != quote) {
    size += at(size) == '\\' ? 2 : 1;
    if (position_ + size >= source_.size()) fail("a string does not end");
  }
  Token& token = add(Token::Kind::kString);
  token.text = read_string_literal(source_.substr(position_ + 1, size - 1), line_);
  consume(size + 1);
}

// Digits with single underscores between them, which are dropped. Stops before anything else.
std::string Lexer::digits(std::size_t& offset, bool (*belongs)(char)) const {
  std::string text;
  while (belongs(at(offset)) || (at(offset) == '_' && belongs(at(offset + 1)))) {
    if (at(offset) != '_') text += at(offset);
    ++offset;
  }
  return text;
}

void Lexer::lex_number() {
  std::size_t size = 0;
  int base = 10;
  std::string text = digits(size, is_digit);
  const char prefix = text == "0" && size == 1 ? static_cast<char>(at(1) | 0x20) : '\0';
  if (prefix == 'x' || prefix == 'o' || prefix == 'b') {
    fail("numbers of other bases than ten are not supported");
  }
  const bool follows_dot = position_ > 0 && source_[position_ - 1] == '.';
  bool is_float = false;
  if (!follows_dot && at(size) == '.' && is_digit(at(size + 1))) {
    ++size;
    text += '.' + digits(size, is_digit);
    is_float = true;
  }
  const std::size_t sign = at(size + 1) == '+' || at(size + 1) == '-' ? 1 : 0;
  if (!follows_dot && (at(size) | 0x20) == 'e' && is_digit(at(size + 1 + sign))) {
    text += fmt::format("e{}", source_.substr(position_ + size + 1, sign));
    size += 1 + sign;
    text += digits(size, is_digit);
    is_float = true;
  }
  if (!is_float && text.size() > 1 && text[0] == '0' && text.find_first_not_of('0') != kNone) {
    fail(fmt::format("the number {} begins with a zero", text));
  }
  Token& token = add(is_float ? Token::Kind::kFloat : Token::Kind::kInteger, text);
  const char* end = text.data() + text.size();
  const auto result = is_float ? std::from_chars(text.data(), end, token.number)
                               : std::from_chars(text.data(), end, token.integer, base);
  if (result.ec != std::errc()) fail(fmt::format("the number {} is out of range", text));
  consume(size);
}

void Lexer::lex_operator() {
  static constexpr std::array<std::string_view, 26> kOperators = {
      "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
  const auto* found = std::find_if(kOperators.begin(), kOperators.end(),
                                   [this](std::string_view name) { return looking_at(name); });
  if (found == kOperators.end()) {
    std::size_t next = position_;
    (void)next_code_point(source_, next);
    fail(fmt::format("unexpected character {}",
                     quoted(source_.substr(position_, next - position_))));
  }
  const char c = found->front();
  if (c == '(' || c == '[' || c == '{') {
    brackets_ += c == '(' ? ')' : c == '[' ? ']' : '}';
  } else if (c == ')' || c == ']' || c == '}') {
    if (brackets_.empty()) fail(fmt::format("unexpected '{}'", c));
    if (brackets_.back() != c) fail(fmt::format("'{}' instead of '{}'", c, brackets_.back()));
    brackets_.pop_back();
  }
  add(Token::Kind::kOperator, std::string(*found));
  consume(found->size());
}

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(normalize_lines(source)).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kText:
      return "text";
    case Token::Kind::kBlockBegin:
      return "'{%'";
    case Token::Kind::kBlockEnd:
      return "'%}'";
    case Token::Kind::kOutputBegin:
      return "'{{'";
    case Token::Kind::kOutputEnd:
      return "'}}'";
    case Token::Kind::kString:
      return "the string " + quoted(token.text);
    case Token::Kind::kEnd:
      return "the end of the template";
    default:
      return "'" + token.text + "'";
  }
}

}  // namespace metal_candle::jinja
