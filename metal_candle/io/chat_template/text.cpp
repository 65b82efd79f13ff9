// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "metal_candle/io/chat_template/failure.h"

namespace metal_candle::jinja {
namespace {

constexpr auto kNone = std::string_view::npos;

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

utf8proc_category_t category_of(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

// The start of the code point that ends before `end`.
std::size_t previous_start(std::string_view text, std::size_t end) {
  do {
    --end;
  } while (is_continuation(text[end]));
  return end;
}

template <typename Belongs>
std::string_view strip_if(std::string_view text, Side side, Belongs belongs) {
  std::size_t begin = 0;
  std::size_t end = text.size();
  if (side != Side::kRight) {
    while (begin < end) {
      std::size_t next = begin;
      if (!belongs(next_code_point(text, next))) break;
      begin = next;
    }
  }
  if (side != Side::kLeft) {
    while (begin < end) {
      const std::size_t start = previous_start(text, end);
      std::size_t next = start;
      if (!belongs(next_code_point(text, next))) break;
      end = start;
    }
  }
  return text.substr(begin, end - begin);
}

// Letters whose other case is several letters, or depends on what is around them (the final
// sigma): Unicode's SpecialCasing.txt, by ranges that hold them.
bool has_special_case(char32_t c, Letters letters) {
  if (letters == Letters::kLower) return c == 0x130 || c == 0x3A3;
  return c == 0xDF || c == 0x149 || c == 0x1F0 || c == 0x390 || c == 0x3B0 || c == 0x587 ||
         (c >= 0x1E96 && c <= 0x1E9A) || (c >= 0x1F50 && c <= 0x1F56) ||
         (c >= 0x1F80 && c <= 0x1FFC) || (c >= 0xFB00 && c <= 0xFB17);
}

void append_other_case(std::string& out, char32_t c, Letters letters) {
  if (has_special_case(c, letters)) {
    throw Failure(fmt::format("changing the case of U+{:04X} is not supported",
                              static_cast<std::uint32_t>(c)));
  }
  const auto point = static_cast<utf8proc_int32_t>(c);
  append_code_point(out,
                    static_cast<char32_t>(letters == Letters::kUpper ? utf8proc_toupper(point)
                                                                     : utf8proc_tolower(point)));
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category_of(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

void append_quoted(std::string& out, char32_t c, char quote) {
  const auto number = static_cast<std::uint32_t>(c);
  if (c == static_cast<char32_t>(quote) || c == '\\') {
    out += '\\';
    out += static_cast<char>(c);
  } else if (c == '\n') {
    out += "\\n";
  } else if (c == '\r') {
    out += "\\r";
  } else if (c == '\t') {
    out += "\\t";
  } else if (is_printable(c)) {
    append_code_point(out, c);
  } else if (c < 0x100) {
    out += fmt::format("\\x{:02x}", number);
  } else if (c < 0x10000) {
    out += fmt::format("\\u{:04x}", number);
  } else {
    out += fmt::format("\\U{:08x}", number);
  }
}

}  // namespace

char32_t next_code_point(std::string_view text, std::size_t& position) {
  const auto lead = static_cast<unsigned char>(text[position++]);
  if (lead < 0x80) return lead;
  const int length = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  char32_t code_point = lead & (0x3FU >> length);
  for (int i = 0; i < length; ++i) {
    code_point = (code_point << 6U) | (static_cast<unsigned char>(text[position++]) & 0x3FU);
  }
  return code_point;
}

void append_code_point(std::string& text, char32_t code_point) {
  std::array<utf8proc_uint8_t, 4> bytes;
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes.data());
  for (utf8proc_ssize_t i = 0; i < size; ++i) {
    text += static_cast<char>(bytes[static_cast<std::size_t>(i)]);
  }
}

std::size_t count_code_points(std::string_view text) {
  return text.size() -
         static_cast<std::size_t>(std::count_if(text.begin(), text.end(), is_continuation));
}

std::size_t byte_offset(std::string_view text, std::size_t index) {
  std::size_t offset = 0;
  for (; index > 0 && offset < text.size(); --index) {
    ++offset;
    while (offset < text.size() && is_continuation(text[offset])) ++offset;
  }
  return offset;
}

std::size_t find_invalid_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  std::size_t position = 0;
  while (position < text.size()) {
    if (bytes[position] < 0x80) {
      ++position;
      continue;
    }
    utf8proc_int32_t code_point = 0;
    const auto length = utf8proc_iterate(
        bytes + position, static_cast<utf8proc_ssize_t>(text.size() - position), &code_point);
    if (length <= 0) return position;
    position += static_cast<std::size_t>(length);
  }
  return kNone;
}

std::size_t find_text(std::string_view text, std::string_view needle, std::size_t from) {
  if (from > text.size() || needle.size() > text.size() - from) return kNone;
  if (needle.empty()) return from;
  // Unlike std::string_view::find(), memmem() takes linear time whatever the two look like.
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return kNone;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

bool is_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view strip(std::string_view text, Side side) {
  return strip_if(text, side, [](char32_t c) { return is_space(c); });
}

std::string_view strip(std::string_view text, std::string_view characters, Side side) {
  std::u32string set;
  for (std::size_t i = 0; i < characters.size();) set += next_code_point(characters, i);
  std::sort(set.begin(), set.end());
  return strip_if(text, side,
                  [&](char32_t c) { return std::binary_search(set.begin(), set.end(), c); });
}

std::vector<std::string_view> split_words(std::string_view text, std::int64_t limit,
                                          bool from_right) {
  std::vector<std::string_view> words;
  text = strip(text, from_right ? Side::kRight : Side::kLeft);
  while (!text.empty() && limit != 0) {
    std::size_t begin = from_right ? text.size() : 0;
    std::size_t end = begin;
    while (from_right ? begin > 0 : end < text.size()) {
      std::size_t next = from_right ? previous_start(text, begin) : end;
      const std::size_t start = next;
      if (is_space(next_code_point(text, next))) break;
      (from_right ? begin : end) = from_right ? start : next;
    }
    words.push_back(text.substr(begin, end - begin));
    text = from_right ? strip(text.substr(0, begin), Side::kRight)
                      : strip(text.substr(end), Side::kLeft);
    if (limit > 0) --limit;
  }
  // What is left after the last split keeps the white space at its far end.
  if (!text.empty()) words.push_back(text);
  if (from_right) std::reverse(words.begin(), words.end());
  return words;
}

std::size_t find_last_text(std::string_view text, std::string_view needle) {
  const std::string backwards(text.rbegin(), text.rend());
  const std::size_t at = find_text(backwards, std::string(needle.rbegin(), needle.rend()));
  return at == kNone ? kNone : text.size() - at - needle.size();
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator,
                                    std::int64_t limit, bool from_right) {
  // From the right means from the left of what is written backwards, byte by byte.
  const std::string backwards = from_right ? std::string(text.rbegin(), text.rend()) : "";
  const std::string reversed_separator(separator.rbegin(), separator.rend());
  const std::string_view searched = from_right ? std::string_view(backwards) : text;
  if (from_right) separator = reversed_separator;
  std::vector<std::string_view> parts;
  const auto add = [&](std::size_t begin, std::size_t end) {
    parts.push_back(text.substr(from_right ? text.size() - end : begin, end - begin));
  };
  std::size_t begin = 0;
  for (; limit != 0; limit -= limit > 0 ? 1 : 0) {
    const std::size_t at = find_text(searched, separator, begin);
    if (at == kNone) break;
    add(begin, at);
    begin = at + separator.size();
  }
  add(begin, text.size());
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t start = 0;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t end = position;
    const char32_t c = next_code_point(text, position);
    const bool breaks = (c >= 0xA && c <= 0xD) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                        c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && position < text.size() && text[position] == '\n') ++position;
    lines.push_back(text.substr(start, (keep_ends ? position : end) - start));
    start = position;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string change_case(std::string_view text, Letters letters) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    append_other_case(out, next_code_point(text, i), letters);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  const std::size_t first = byte_offset(text, 1);
  // The first letter gets its title case, which only digraphs such as U+01C6 have of their own.
  std::size_t position = 0;
  if (!text.empty()) {
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, position));
    if (utf8proc_totitle(c) != utf8proc_toupper(c)) {
      throw Failure(fmt::format("the title case of U+{:04X} is not supported", c));
    }
  }
  return change_case(text.substr(0, first), Letters::kUpper) +
         change_case(text.substr(first), Letters::kLower);
}

bool is_space(std::string_view text) { return !text.empty() && strip(text, Side::kLeft).empty(); }

bool has_case(std::string_view text, Letters letters) {
  bool found = false;
  for (std::size_t i = 0; i < text.size();) {
    const auto category = category_of(next_code_point(text, i));
    if (category == UTF8PROC_CATEGORY_LT) return false;
    if (category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL) {
      if ((category == UTF8PROC_CATEGORY_LU) != (letters == Letters::kUpper)) return false;
      found = true;
    }
  }
  return found;
}

std::string quoted(std::string_view text) {
  const bool double_quotes = text.find('\'') != kNone && text.find('"') == kNone;
  const char quote = double_quotes ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t i = 0; i < text.size();) append_quoted(out, next_code_point(text, i), quote);
  return out + quote;
}

std::string float_text(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer;
  // Python writes exponents from 1e16 and below 1e-4 only; to_chars() writes whichever is shorter.
  const double magnitude = std::fabs(number);
  const bool plain = number == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer.data(), end.ptr);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace metal_candle::jinja
