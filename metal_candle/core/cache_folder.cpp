// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cache_folder.h.
#include "metal_candle/core/cache_folder.h"

#include <cstdlib>

namespace metal_candle {

std::filesystem::path user_cache_folder() {
  namespace fs = std::filesystem;
  if (const char* folder = std::getenv("METAL_CANDLE_CACHE")) return fs::path(folder);
  if (const char* folder = std::getenv("XDG_CACHE_HOME")) return fs::path(folder) / "metal-candle";
  if (const char* home = std::getenv("HOME")) return fs::path(home) / ".cache" / "metal-candle";
  return {};
}

}  // namespace metal_candle
