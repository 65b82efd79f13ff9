// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <new>

#include "metal_candle/core/error.h"

namespace metal_candle::tokenizers {
namespace {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// How long a character is that begins with this byte, and what its second byte may be: the table
// of well-formed UTF-8 in chapter 3 of the Unicode standard.
struct Lead {
  std::uint8_t size;  // 0: no character begins so
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
};

constexpr Lead lead_of(unsigned byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

std::uint8_t byte_at(std::string_view text, std::size_t i) {
  return static_cast<std::uint8_t>(text[i]);
}

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

// Other_Alphabetic outside of the marks: circled and squared Latin letters.
bool is_alphabetic_symbol(char32_t code) {
  return (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
         (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189);
}

// Below, all characters are in normal form C and none combines with one before it.
constexpr char32_t kFirstCombining = 0x300;

// Whether `text` may differ from its normal form C. Says yes too often, but never for letters and
// ideographs that stand for themselves.
bool may_change_in_nfc(std::string_view text) {
  while (!text.empty()) {
    const auto [code, size] = first_character(text);
    text.remove_prefix(size);
    if (code < kFirstCombining) continue;
    // Hangul vowels and final consonants join the syllable before them.
    if (code >= 0x1160 && code <= 0x11FF) return true;
    const auto& property = *utf8proc_get_property(static_cast<utf8proc_int32_t>(code));
    constexpr unsigned kNone = UINT16_MAX;
    constexpr unsigned kSecondOfPair = 0x8000;
    const bool decomposes = property.decomp_seqindex != kNone && property.decomp_type == 0;
    const bool joins = property.comb_index != kNone && property.comb_index >= kSecondOfPair;
    if (property.combining_class != 0 || decomposes || joins) return true;
  }
  return false;
}

int utf8proc_flags(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case NormalForm::kNfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case NormalForm::kNfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case NormalForm::kNfkd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  return 0;
}

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

}  // namespace

Utf8Step next_utf8(std::string_view text) {
  using Kind = Utf8Step::Kind;
  const Lead lead = lead_of(byte_at(text, 0));
  if (lead.size == 0) return {Kind::kMalformed, 1};
  for (std::size_t i = 1; i < lead.size; ++i) {
    if (i == text.size()) return {Kind::kIncomplete, i};
    const std::uint8_t low = i == 1 ? lead.low : 0x80;
    const std::uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte_at(text, i) < low || byte_at(text, i) > high) return {Kind::kMalformed, i};
  }
  return {Kind::kCharacter, lead.size};
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto step = next_utf8(text);
    if (step.kind != Utf8Step::Kind::kCharacter) return false;
    text.remove_prefix(step.size);
  }
  return true;
}

std::string replace_malformed(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const auto step = next_utf8(text);
    result +=
        step.kind == Utf8Step::Kind::kCharacter ? text.substr(0, step.size) : kReplacementCharacter;
    text.remove_prefix(step.size);
  }
  return result;
}

Character first_character(std::string_view text) {
  const char32_t lead = byte_at(text, 0);
  if (lead < 0x80) return {lead, 1};
  const auto bits = [&](std::size_t i) -> char32_t { return byte_at(text, i) & 0x3FU; };
  if (lead < 0xE0) return {(lead & 0x1FU) << 6U | bits(1), 2};
  if (lead < 0xF0) return {(lead & 0x0FU) << 12U | bits(1) << 6U | bits(2), 3};
  return {(lead & 0x07U) << 18U | bits(1) << 12U | bits(2) << 6U | bits(3), 4};
}

Character last_character(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while ((byte_at(text, begin) & 0xC0U) == 0x80U) --begin;
  return first_character(text.substr(begin));
}

void append_utf8(std::string& text, char32_t code) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  const auto put_tail = [&](unsigned shift) { put(0x80U | (code >> shift & 0x3FU)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0U | code >> 6U);
    put_tail(0);
  } else if (code < 0x10000) {
    put(0xE0U | code >> 12U);
    put_tail(6);
    put_tail(0);
  } else {
    put(0xF0U | code >> 18U);
    put_tail(12);
    put_tail(6);
    put_tail(0);
  }
}

bool is_space(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= '\t' && code <= '\r');
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
         code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_letter(char32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool is_number(char32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t code) {
  if (code < 0x80) {
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') ||
           (code >= '[' && code <= '`') || (code >= '{' && code <= '~');
  }
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(char32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}

bool is_nonspacing_mark(char32_t code) { return category(code) == UTF8PROC_CATEGORY_MN; }

bool is_control(char32_t code) { return category(code) >= UTF8PROC_CATEGORY_CC; }

bool is_word(char32_t code) {
  const auto c = category(code);
  return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_ME) || c == UTF8PROC_CATEGORY_ND ||
         c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_PC || code == 0x200C ||
         code == 0x200D || is_alphabetic_symbol(code);
}

void append_lowercase(std::string& text, char32_t code) {
  append_utf8(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
  // The one character whose full lower case has two: i and a dot above.
  if (code == 0x130) append_utf8(text, 0x307);
}

std::string normal_form(std::string text, NormalForm form) {
  if (is_ascii(text) || (form == NormalForm::kNfc && !may_change_in_nfc(text))) return text;
  utf8proc_uint8_t* mapped = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                 static_cast<utf8proc_option_t>(utf8proc_flags(form)));
  if (size == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  if (size < 0) throw Error(std::string("Unicode normalization: ") + utf8proc_errmsg(size));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  return {reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(size)};
}

}  // namespace metal_candle::tokenizers
