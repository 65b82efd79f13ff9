// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Where this user's caches are kept.
#pragma once

#include <filesystem>

namespace metal_candle {

/// METAL_CANDLE_CACHE, or else metal-candle in the folder for caches ($XDG_CACHE_HOME,
/// $HOME/.cache). Empty if there is nowhere to keep them. It may not exist yet.
[[nodiscard]] std::filesystem::path user_cache_folder();

}  // namespace metal_candle
