// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a text, for the tokenizers of the tests.
#include <cstdlib>
#include <vector>

#include "metal_candle/io/tokenizer.h"

namespace {

using metal_candle::Tokenizer;

std::vector<Tokenizer> load_all() {
  std::vector<Tokenizer> tokenizers;
  for (const char* name : {"gpt2", "llama2", "llama3", "qwen2"}) {
    tokenizers.push_back(Tokenizer::load(std::string(METAL_CANDLE_SOURCE_DIR) +
                                         "/tests/fixtures/tokenizers/" + name));
  }
  return tokenizers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<Tokenizer> tokenizers = load_all();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const Tokenizer& tokenizer : tokenizers) {
    const auto ids = tokenizer.encode(text);
    const std::string whole = tokenizer.decode(ids, false);
    std::string streamed;
    auto stream = tokenizer.stream(false);
    for (const std::int32_t id : ids) streamed += stream.push(id);
    if (streamed + stream.finish() != whole) std::abort();
  }
  return 0;
}
