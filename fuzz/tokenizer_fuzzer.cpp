// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any text as a tokenizer.json, and after a NUL a text for that tokenizer.
#include <cstdlib>

#include "fuzz/split_input.h"
#include "metal_candle/core/error.h"
#include "metal_candle/io/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [json, text] =
      metal_candle::split_input(data, size, " A b  c\n\tx1 \xe6\xbc\xa2 e\xcc\x81 <s>\xff");
  try {
    const auto tokenizer = metal_candle::Tokenizer::from_json(json, "fuzzed");
    const auto ids = tokenizer.encode(text);
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
    }
    const std::string whole = tokenizer.decode(ids);
    std::string streamed;
    auto stream = tokenizer.stream();
    for (const std::int32_t id : ids) streamed += stream.push(id);
    if (streamed + stream.finish() != whole) std::abort();
  } catch (const metal_candle::Error&) {
  }
  return 0;
}
