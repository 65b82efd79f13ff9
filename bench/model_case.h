// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The models that suites measure, each in a folder from which we and the peers load it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/harness.h"
#include "bench/peer.h"

namespace metal_candle::bench {

struct ModelPeer {
  std::string framework;  // As --compare has it: "torch".
  std::string title;      // "PyTorch"
  std::shared_ptr<Peer> peer;
};

/// What the peers of a case measured, in their order.
using PeerValues = std::vector<double>;

struct ModelCase {
  std::string name;
  std::string folder;
  bool fits_caches = false;
  std::vector<ModelPeer> peers =
      {};  // With the model loaded; PyTorch, if it is there, before others.

  /// The name of a row.
  [[nodiscard]] std::string row(const std::string& what) const { return name + ", " + what; }
  /// Null without PyTorch.
  [[nodiscard]] Peer* torch() const;
  /// A contestant for each peer, in their order.
  [[nodiscard]] std::vector<Contestant> contestants(const std::string& command) const;
  /// What they answer, asked once.
  [[nodiscard]] PeerValues ask(const std::string& command) const;
  /// A row against PyTorch.
  [[nodiscard]] Row compare(Row row, const PeerValues& values) const;
  /// Adds that row, and one against each other peer. Values are in the unit of the row.
  void add(Table& table, const Row& row, const PeerValues& values) const;
};

/// Calls `measure` for the model in `folder`, unless that is empty, and for a decoder of the shape
/// of Qwen2.5-0.5B with random bf16 weights (1 GB in the folder for temporary files), where the
/// table wants any of these rows of them. `peers`: of torch, mlx and jax; begins with a note of the
/// version of each, or of why it is missing, and `note`. One that cannot load a model does without.
void for_each_model(Table& table, const std::string& folder, const std::vector<std::string>& peers,
                    const std::string& note, const std::vector<std::string>& rows,
                    const std::function<void(const ModelCase&)>& measure);

/// Adds a row of the seconds in which torch.compile answers the first `command` for `row`.
void add_compiling_row(Table& table, const ModelCase& c, const std::string& row,
                       const std::string& command);

/// The names of what add_start_rows adds.
[[nodiscard]] std::vector<std::string> start_row_names(const std::string& what);

/// Adds rows of how soon the first `what` ("token", "step") is computed (start.h): by this program,
/// and by each peer that loads the model and gets `command`.
void add_start_rows(Table& table, const ModelCase& c, const std::string& what,
                    const std::string& command);

}  // namespace metal_candle::bench
