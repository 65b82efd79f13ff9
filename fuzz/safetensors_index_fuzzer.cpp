// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any text as a model.safetensors.index.json.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "metal_candle/core/error.h"
#include "metal_candle/io/safetensors_index.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto files = metal_candle::parse_safetensors_index(
        {reinterpret_cast<const char*>(data), size}, "fuzzed");
    for (const auto& [tensor, file] : files) {
      if (file.empty() || file.find('/') != std::string::npos) std::abort();
    }
  } catch (const metal_candle::FormatError&) {
  }
  return 0;
}
