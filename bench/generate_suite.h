// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The generate suite: how fast tokens come, how soon the first, and in how much memory, against
// memory bandwidth and PyTorch with Hugging Face's transformers.
#pragma once

#include <string>

#include "bench/harness.h"

namespace metal_candle::bench {

/// A decoder of the shape of Qwen2.5-0.5B with random weights, and the model in `folder` unless
/// that is empty.
void run_generate_suite(Table& table, const std::string& folder);

/// Loads a model and generates one token.
void generate_first_token(const std::string& folder);

}  // namespace metal_candle::bench
