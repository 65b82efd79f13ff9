// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The small tokenizers of scripts/make_tokenizer_fixtures.py and what Hugging Face's library says
// they do.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metal_candle/io/tokenizer.h"

namespace metal_candle::testing {

/// The path of a file or folder in tests/fixtures/tokenizers.
std::string tokenizer_path(const std::string& name);
nlohmann::json read_json(const std::string& path);

inline const std::vector<std::string> kTokenizerFamilies = {"gpt2",   "llama3",  "qwen2",
                                                            "llama2", "mistral", "bert"};

/// Expects that a case of a fixture's "encode" list encodes and decodes, at once and as a stream,
/// as Hugging Face does.
void expect_case(const Tokenizer& tokenizer, const nlohmann::json& test_case);

/// What the pieces of a stream put together are. Expects each to be whole characters.
std::string decode_streaming(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids,
                             bool skip_special_tokens);

}  // namespace metal_candle::testing
