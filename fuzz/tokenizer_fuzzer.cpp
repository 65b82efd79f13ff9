// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any text as a tokenizer.json. One that is accepted has to encode and decode.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/io/tokenizer.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle {
namespace {

void check_text(const std::string& text) {
  if (!tokenizers::is_utf8(text)) std::abort();
}

void use(const Tokenizer& tokenizer) {
  for (const std::string_view text : {"ab  <s>1\n", " \xC3\xA9\xE4\xB8\xAD'll", "\xFF\xF0\x9F"}) {
    const auto ids = tokenizer.encode(text);
    for (const auto id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size() || !tokenizer.id_to_token(id)) std::abort();
    }
    const std::string decoded = tokenizer.decode(ids);
    check_text(decoded);
    auto stream = tokenizer.stream();
    std::string streamed;
    for (const auto id : ids) {
      const std::string piece = stream.push(id);
      check_text(piece);
      streamed += piece;
    }
    if (streamed + stream.finish() != decoded) std::abort();
  }
}

}  // namespace
}  // namespace metal_candle

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    metal_candle::use(
        metal_candle::Tokenizer::from_json({reinterpret_cast<const char*>(data), size}, "fuzzed"));
  } catch (const metal_candle::Error&) {
  }
  return 0;
}
