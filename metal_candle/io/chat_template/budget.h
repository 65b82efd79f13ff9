// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A bound on what rendering a template costs, so that a hostile one ends with an error.
#pragma once

#include <cstdint>

#include "metal_candle/io/chat_template/failure.h"

namespace metal_candle::jinja {

/// Counts about the bytes that a rendering produces and looks at; each step counts as kStep.
class Budget {
 public:
  static constexpr std::uint64_t kStep = 64;
  /// A conversation of a million tokens needs a tenth of it; it is gone after a few seconds.
  static constexpr std::uint64_t kLimit = std::uint64_t{1} << 30U;

  void spend(std::uint64_t cost) {
    if (cost > left_) {
      left_ = 0;
      throw Failure("the template takes too many steps, or makes too much text");
    }
    left_ -= cost;
  }
  void step() { spend(kStep); }

 private:
  std::uint64_t left_ = kLimit;
};

}  // namespace metal_candle::jinja
