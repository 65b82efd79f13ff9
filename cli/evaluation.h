// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Evaluation as several commands need it.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {

/// How well the model predicts the targets of the first `batches` batches of the dataset; -1: all.
[[nodiscard]] Evaluation evaluate_dataset(const Decoder& model, const Dataset& data,
                                          std::int64_t batch_size, std::int64_t batches);

/// --test-batches, for the number of batches.
void add_test_batches_option(CLI::App& app, std::int64_t& batches);

}  // namespace metal_candle::cli
