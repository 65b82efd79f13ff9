// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Options that commands which run a model share.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {

struct ModelOptions {
  std::string model;
  std::string device = to_string(default_device());
  std::string dtype = "auto";
  std::string mode;

  void add_to(CLI::App& command);
  /// Sets the execution mode of this thread.
  void apply_mode() const;
  [[nodiscard]] Device parsed_device() const { return parse_device(device); }
  /// None for "auto": as the weights are saved.
  [[nodiscard]] std::optional<DType> parsed_dtype() const;
  [[nodiscard]] Decoder load() const;
};

/// The last component of a path, for headings.
[[nodiscard]] std::string base_name(const std::string& path);

}  // namespace metal_candle::cli
