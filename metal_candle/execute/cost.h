// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a step costs on paper: for traces, profiles and error messages.
#pragma once

#include <span>

#include "metal_candle/backend/backend.h"

namespace metal_candle {

/// Name, shapes, floating-point operations (a multiply-add counts two) and the bytes that have to
/// be read and written: of inputs once and of outputs once, of a table only the rows that are
/// taken, and of what is updated in place only the update. Attention counts all keys, which a mask
/// or a key length may leave out.
[[nodiscard]] backend::StepLabel make_label(Device device, const Operation& operation,
                                            std::span<const TensorLayout> inputs,
                                            std::span<const TensorLayout> outputs);

}  // namespace metal_candle
