// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// UTF-8 and the character properties that tokenizers are defined by. Properties are those of the
// Unicode version of libutf8proc. Thread safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace metal_candle::tokenizers {

/// What a text begins with. `size` counts bytes: of the character; of the longest beginning of one
/// if it is malformed; of all that is left if the text ends inside a character.
struct Utf8Step {
  enum class Kind : std::uint8_t { kCharacter, kMalformed, kIncomplete };
  Kind kind;
  std::size_t size;
};

/// `text` is not empty.
[[nodiscard]] Utf8Step next_utf8(std::string_view text);

/// Whether the whole text is UTF-8 (without surrogates, as RFC 3629 has it).
[[nodiscard]] bool is_utf8(std::string_view text);

/// U+FFFD for every maximal beginning of a character that is none: what Python's
/// bytes.decode(errors="replace") does.
[[nodiscard]] std::string replace_malformed(std::string_view text);

/// A character and the bytes it takes.
struct Character {
  char32_t code;
  std::size_t size;
};

/// The character that `text`, which is UTF-8 and not empty, begins with.
[[nodiscard]] Character first_character(std::string_view text);
/// The character that `text`, which is UTF-8 and not empty, ends with.
[[nodiscard]] Character last_character(std::string_view text);

void append_utf8(std::string& text, char32_t code);

/// White_Space.
[[nodiscard]] bool is_space(char32_t code);
/// General category L.
[[nodiscard]] bool is_letter(char32_t code);
/// General category N.
[[nodiscard]] bool is_number(char32_t code);
/// General category P, and the ASCII symbols that are called punctuation.
[[nodiscard]] bool is_punctuation(char32_t code);
/// General category M.
[[nodiscard]] bool is_mark(char32_t code);
/// General category Mn.
[[nodiscard]] bool is_nonspacing_mark(char32_t code);
/// General categories Cc, Cf and Co: control, format and private characters.
[[nodiscard]] bool is_control(char32_t code);
/// What \w is in UTS 18: Alphabetic, M, Nd, Pc and Join_Control.
[[nodiscard]] bool is_word(char32_t code);

/// The lower case of one character, whatever is around it, appended to `text`.
void append_lowercase(std::string& text, char32_t code);

enum class NormalForm : std::uint8_t { kNfc, kNfd, kNfkc, kNfkd };
/// UAX 15. `text` is UTF-8.
[[nodiscard]] std::string normal_form(std::string text, NormalForm form);

}  // namespace metal_candle::tokenizers
