// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What `metal-candle tune` found on machines that were measured, where the defaults in the code are
// not the best.
#include "metal_candle/backend/tuning_file.h"

namespace metal_candle::backend {

const char* const kShippedTuning = R"({
 "format": "metal-candle tuning",
 "version": 1,
 "devices": []
})";

}  // namespace metal_candle::backend
