// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tests of error messages.
#pragma once

#include <string>

namespace metal_candle::testing {

/// What the E that fn throws says; "no such error" when it throws none. Other exceptions pass.
template <typename E, typename Fn>
std::string message_of(Fn fn) {
  try {
    fn();
  } catch (const E& error) {
    return error.what();
  }
  return "no such error";
}

}  // namespace metal_candle::testing
