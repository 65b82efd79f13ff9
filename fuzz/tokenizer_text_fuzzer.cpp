// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a text to encode. Byte-level tokenizers lose nothing; the known patterns cut it as
// their regular expressions do.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/tokenizer.h"
#include "metal_candle/io/tokenizer/pattern.h"
#include "metal_candle/io/tokenizer/scanner.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle {
namespace {

using tokenizers::KnownPattern;

// All bytes and two merges.
Tokenizer make_byte_level() {
  std::string vocab;
  int id = 0;
  for (const auto& [first, last] :
       {std::pair{0x21, 0x7E}, {0xA1, 0xAC}, {0xAE, 0xFF}, {0x100, 0x143}}) {
    for (int code = first; code <= last; ++code) {
      vocab += "\"";
      if (code == '"' || code == '\\') vocab += "\\";
      tokenizers::append_utf8(vocab, static_cast<char32_t>(code));
      vocab += "\": " + std::to_string(id++) + ", ";
    }
  }
  return Tokenizer::from_json(
      R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
          "decoder": {"type": "ByteLevel"},
          "model": {"type": "BPE", "merges": ["a b", "ab ab"], "vocab": {)" +
      vocab + R"("ab": 256, "abab": 257}}})");
}

void check(KnownPattern pattern, const std::string& text) {
  static const auto regexes = [] {
    std::vector<std::unique_ptr<const tokenizers::Pattern>> result;
    for (const auto known : {KnownPattern::kGpt2, KnownPattern::kLlama3, KnownPattern::kQwen2}) {
      result.push_back(tokenizers::make_regex_pattern(tokenizers::regex_of(known)));
    }
    return result;
  }();
  std::vector<tokenizers::Range> words;
  regexes[static_cast<std::size_t>(pattern)]->find_all(text, words);
  for (const auto& word : words) {
    if (tokenizers::scan_word(pattern, text, word.begin) != word.end) std::abort();
  }
}

}  // namespace
}  // namespace metal_candle

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace metal_candle;
  static const Tokenizer tokenizer = make_byte_level();
  const std::string text =
      tokenizers::replace_malformed({reinterpret_cast<const char*>(data), size});
  if (tokenizer.decode(tokenizer.encode({reinterpret_cast<const char*>(data), size})) != text) {
    std::abort();
  }
  // The scanners' character categories are a version of Unicode newer: compare what is old.
  std::string old;
  for (std::string_view rest = text; !rest.empty();) {
    const auto [code, bytes] = tokenizers::first_character(rest);
    if (code < 0x800 || (code >= 0x2000 && code < 0x2070)) tokenizers::append_utf8(old, code);
    rest.remove_prefix(bytes);
  }
  for (const auto pattern : {KnownPattern::kGpt2, KnownPattern::kLlama3, KnownPattern::kQwen2}) {
    check(pattern, old);
  }
  return 0;
}
