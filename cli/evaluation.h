// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Evaluation as several commands need it.
#pragma once

#include <cstdint>

#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {

/// How well the model predicts the targets of the dataset.
[[nodiscard]] Evaluation evaluate_dataset(const Decoder& model, const Dataset& data,
                                          std::int64_t batch_size);

}  // namespace metal_candle::cli
