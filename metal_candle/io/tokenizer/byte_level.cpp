// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/byte_level.h"

#include <array>
#include <cstddef>

#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

// The alphabet ends before this character.
constexpr std::size_t kCharacterEnd = 0x100 + 68;
constexpr std::int16_t kNoByte = -1;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
}

constexpr std::array<char16_t, 256> make_characters() {
  std::array<char16_t, 256> characters{};
  char16_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    characters[byte] = stands_for_itself(byte) ? static_cast<char16_t>(byte) : next++;
  }
  return characters;
}

constexpr auto kCharacters = make_characters();

constexpr std::array<std::int16_t, kCharacterEnd> make_bytes() {
  std::array<std::int16_t, kCharacterEnd> bytes{};
  bytes.fill(kNoByte);
  for (unsigned byte = 0; byte < 256; ++byte) {
    bytes[kCharacters[byte]] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}

constexpr auto kBytes = make_bytes();

}  // namespace

void append_byte_level(std::string& text, std::string_view bytes) {
  for (const char byte : bytes) append_utf8(text, kCharacters[static_cast<std::uint8_t>(byte)]);
}

void append_bytes_of(std::string& bytes, std::string_view token) {
  const std::size_t size_before = bytes.size();
  for (std::string_view rest = token; !rest.empty();) {
    const auto [code, size] = first_character(rest);
    const auto byte = code < kCharacterEnd ? kBytes[code] : kNoByte;
    if (byte == kNoByte) {
      bytes.resize(size_before);
      bytes += token;
      return;
    }
    bytes.push_back(static_cast<char>(byte));
    rest.remove_prefix(size);
  }
}

}  // namespace metal_candle::tokenizers
