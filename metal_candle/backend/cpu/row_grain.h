// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How many rows a thread takes at once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "metal_candle/backend/tuning.h"

namespace metal_candle::backend::cpu {

/// Rows of `length` elements, of `count`, so that starting a thread is worth its while: about 16K
/// elements, unless tuned.
inline std::int64_t tuned_row_grain(DType dtype, std::int64_t count, std::int64_t length) {
  const std::int64_t elements = tuning(Device::cpu())
                                    .get(
                                        Tunable::kRowGrain,
                                        [&] {
                                          return ShapeClass::of(dtype, {count, length});
                                        },
                                        16384);
  return std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, length));
}

}  // namespace metal_candle::backend::cpu
