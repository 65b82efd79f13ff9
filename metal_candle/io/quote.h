// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Names out of files, for error messages: a file may be anybody's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace metal_candle {

/// 'text' in quotes, without control characters and cut where it is too long to read.
[[nodiscard]] std::string quote(std::string_view text);

/// The candidate that was perhaps meant by `name`: one with a prefix more or less ("model."), else
/// one a few letters away. Empty if there is none.
[[nodiscard]] std::string nearest_name(std::string_view name,
                                       const std::vector<std::string>& candidates);

}  // namespace metal_candle
