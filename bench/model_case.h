// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The models that suites measure, each in a folder from which we and PyTorch load it.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "bench/harness.h"
#include "bench/peer.h"

namespace metal_candle::bench {

struct ModelCase {
  std::string name;
  std::string folder;
  Peer* torch = nullptr;  // With the model loaded; null if there is no PyTorch.
  bool fits_caches = false;

  /// The name of a row.
  [[nodiscard]] std::string row(const char* what) const { return name + ", " + what; }
};

/// Calls `measure` for the model in `folder`, unless that is empty, and for a decoder of the shape
/// of Qwen2.5-0.5B with random bf16 weights (1 GB in the folder for temporary files), where the
/// table wants any of these rows of them. Begins with a note of the peer's version, and `note`.
void for_each_model(Table& table, const std::string& folder, const std::string& note,
                    std::span<const char* const> rows,
                    const std::function<void(const ModelCase&)>& measure);

/// Adds a row of the time from the start of a process to the end of the first `what` ("token",
/// "step") that it computes: of this program with `--first what`, and of a Python that loads the
/// model and gets `command`.
void start_row(Table& table, const ModelCase& c, const char* row_name, const std::string& what,
               const std::string& command);

}  // namespace metal_candle::bench
