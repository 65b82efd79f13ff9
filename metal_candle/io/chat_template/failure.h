// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How the parts of the template engine report an error: ChatTemplate turns it into a FormatError
// that names the template.
#pragma once

#include <stdexcept>
#include <string>

namespace metal_candle::jinja {

/// Why a template cannot be parsed or rendered, and at which of its lines; 0 as long as nobody who
/// knows the line has seen it.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& message, int line_number = 0)
      : std::runtime_error(message), line(line_number) {}

  int line;
};

}  // namespace metal_candle::jinja
