// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a step costs on paper: for traces, profiles and error messages.
#pragma once

#include <span>

#include "metal_candle/backend/backend.h"

namespace metal_candle {

/// Name, shapes, floating-point operations (a multiply-add counts two) and the bytes of inputs read
/// once and outputs written once.
[[nodiscard]] backend::StepLabel make_label(const Operation& operation,
                                            std::span<const TensorLayout> inputs,
                                            std::span<const TensorLayout> outputs);

}  // namespace metal_candle
