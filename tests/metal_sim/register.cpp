// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Makes the Metal backend, on the Metal in software, that of metal:0 in test programs which are
// told to compute there.
#include <cstdlib>
#include <string_view>

#include "metal_candle/backend/registry.h"

namespace metal_candle::backend::metal {
Backend& metal_backend(int index);
}

namespace {

const bool registered = [] {
  const char* device = std::getenv("METAL_CANDLE_DEVICE");
  if (device == nullptr || !std::string_view(device).starts_with("metal")) return false;
  metal_candle::backend::set_backend({metal_candle::DeviceType::kMetal, 0},
                                     &metal_candle::backend::metal::metal_backend(0));
  return true;
}();

}  // namespace
