// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The generate suite: how fast tokens come, how soon the first, and in how much memory, against
// memory bandwidth, PyTorch with Hugging Face's transformers, MLX and JAX.
#pragma once

#include <string>
#include <vector>

#include "bench/harness.h"

namespace metal_candle::bench {

/// A decoder of the shape of Qwen2.5-0.5B with random weights, and the model in `folder` unless
/// that is empty. `peers`: of torch, mlx and jax. One that is not installed is a note.
void run_generate_suite(Table& table, const std::string& folder,
                        const std::vector<std::string>& peers);

/// Loads a model, and generates one token when it is told to (answer_start).
void generate_first_token(const std::string& folder);

}  // namespace metal_candle::bench
