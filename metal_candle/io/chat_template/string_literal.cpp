// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/string_literal.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>

#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

class Reader {
 public:
  Reader(std::string_view literal, int line) : literal_(literal), line_(line) {}

  std::string read() {
    while (position_ < literal_.size()) {
      const char c = literal_[position_++];
      if (c == '\\') {
        read_escape();
      } else {
        out_ += c;
      }
    }
    return std::move(out_);
  }

 private:
  // At least `least` and at most `most` digits of the base.
  void read_number(std::size_t least, std::size_t most, int base) {
    const std::size_t begin = position_;
    const char* first = literal_.data() + begin;
    std::uint32_t number = 0;
    const auto result =
        std::from_chars(first, first + std::min(most, literal_.size() - begin), number, base);
    position_ += static_cast<std::size_t>(result.ptr - first);
    if (position_ - begin < least) {
      throw Failure(fmt::format("an escape in a string needs {} digits", least), line_);
    }
    if (number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) {
      throw Failure(fmt::format("U+{:04X}, which a string escapes, is no character", number),
                    line_);
    }
    append_code_point(out_, number);
  }

  void read_escape() {
    static constexpr std::string_view kLetters = "\\'\"abfnrtv";
    static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    const char c = literal_[position_++];
    if (const auto known = kLetters.find(c); known != std::string_view::npos) {
      out_ += kMeanings[known];
    } else if (c >= '0' && c <= '7') {
      --position_;
      read_number(1, 3, 8);
    } else if (c == 'x') {
      read_number(2, 2, 16);
    } else if (c == 'u') {
      read_number(4, 4, 16);
    } else if (c == 'U') {
      read_number(8, 8, 16);
    } else if (c == 'N' || static_cast<unsigned char>(c) >= 0x80) {
      throw Failure(
          "a string has an escape that is not supported: \\N, or one of a character "
          "beyond ASCII",
          line_);
    } else if (c != '\n') {
      out_ += '\\';
      out_ += c;
    }
  }

  std::string_view literal_;
  int line_;
  std::size_t position_ = 0;
  std::string out_;
};

}  // namespace

std::string read_string_literal(std::string_view literal, int line) {
  return Reader(literal, line).read();
}

}  // namespace metal_candle::jinja
