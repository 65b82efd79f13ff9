// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What `metal-candle tune` found on machines that were measured, where the defaults in the code are
// not the best.
#include "metal_candle/backend/tuning_file.h"

namespace metal_candle::backend {

const char* const kShippedTuning = R"({
 "format": "metal-candle tuning",
 "version": 1,
 "devices": [
  {
   "device": "NVIDIA H100 80GB HBM3, sm_90, cuBLASLt 13.1.0",
   "values": [
    {"parameter": "product algorithm", "dtype": "f32", "sizes": [32, 1024, 1024], "form": 6, "value": 6},
    {"parameter": "product algorithm", "dtype": "f32", "sizes": [32, 4096, 1024], "form": 6, "value": 6}
   ]
  }
 ]
})";

}  // namespace metal_candle::backend
