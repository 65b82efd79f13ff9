// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any text as the config.json of a decoder.
#include <cstddef>
#include <cstdint>

#include "metal_candle/core/error.h"
#include "metal_candle/models/decoder_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto json =
        metal_candle::JsonObject::parse({reinterpret_cast<const char*>(data), size}, "fuzzed");
    (void)metal_candle::read_decoder_config(json).num_parameters();
  } catch (const metal_candle::Error&) {
  }
  return 0;
}
