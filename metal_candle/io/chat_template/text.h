// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What Python's `str` does, on valid UTF-8: positions and lengths are in code points.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle::jinja {

/// Reads the code point at `position`, which must be the start of one, and moves past it.
[[nodiscard]] char32_t next_code_point(std::string_view text, std::size_t& position);

void append_code_point(std::string& text, char32_t code_point);

[[nodiscard]] std::size_t count_code_points(std::string_view text);

/// The byte at which code point `index` starts; the size of the text when there are fewer.
[[nodiscard]] std::size_t byte_offset(std::string_view text, std::size_t index);

/// The offset of the first byte that is not UTF-8 (overlong forms and surrogates are not), or npos.
[[nodiscard]] std::size_t find_invalid_utf8(std::string_view text);

/// Where `needle` first begins in `text` at or after byte `from`, or npos. Linear in the worst
/// case.
[[nodiscard]] std::size_t find_text(std::string_view text, std::string_view needle,
                                    std::size_t from = 0);

/// Where it last begins, or npos. Linear too.
[[nodiscard]] std::size_t find_last_text(std::string_view text, std::string_view needle);

enum class Side { kBoth, kLeft, kRight };

/// str.strip() and its one-sided forms.
[[nodiscard]] std::string_view strip(std::string_view text, Side side);
/// The same, of any of the code points of `characters`.
[[nodiscard]] std::string_view strip(std::string_view text, std::string_view characters, Side side);

/// str.split() at runs of white space; `limit` splits at most, or any number when negative.
[[nodiscard]] std::vector<std::string_view> split_words(std::string_view text, std::int64_t limit,
                                                        bool from_right);
/// str.split(separator); the separator must not be empty.
[[nodiscard]] std::vector<std::string_view> split(std::string_view text, std::string_view separator,
                                                  std::int64_t limit, bool from_right);
[[nodiscard]] std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

enum class Letters { kUpper, kLower };

/// str.upper() and str.lower(). Throws Failure for the few letters whose other case is not one
/// letter, or depends on their neighbours.
[[nodiscard]] std::string change_case(std::string_view text, Letters letters);
[[nodiscard]] std::string capitalize(std::string_view text);

/// The predicates of str: whether every character is of the kind, and there is one.
[[nodiscard]] bool is_space(std::string_view text);
[[nodiscard]] bool is_space(char32_t code_point);
/// Whether there are cased letters, all of them upper-case (or lower-case).
[[nodiscard]] bool has_case(std::string_view text, Letters letters);

/// What repr() prints: quotes chosen and escapes written as Python does.
[[nodiscard]] std::string quoted(std::string_view text);

/// What repr() prints of a float: the shortest digits that read back.
[[nodiscard]] std::string float_text(double number);

}  // namespace metal_candle::jinja
