// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The Metal backend, on the Metal in software, as that of metal:0: for tests of whole expressions.
#pragma once

#include "metal_candle/backend/metal/metal_backend.h"
#include "metal_candle/backend/registry.h"

namespace metal_candle::backend::metal {

inline MetalBackend& registered_backend() {
  static auto* backend = [] {
    auto* made = new MetalBackend(0);
    set_backend({DeviceType::kMetal, 0}, made);
    return made;
  }();
  return *backend;
}

}  // namespace metal_candle::backend::metal
