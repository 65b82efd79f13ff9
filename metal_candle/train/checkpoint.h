// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Checkpoints: everything a training run needs to go on as if it had never stopped. Each is one
// safetensors file, checkpoint-0000100.safetensors: tensors by name, and the rest as JSON in its
// metadata. A file appears under that name by renaming, after it has been synced, so that whatever
// is found after a crash is whole.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "metal_candle/graph/tensor.h"
#include "metal_candle/train/observer.h"

namespace metal_candle {

struct Checkpoint {
  std::int64_t iteration = 0;
  std::map<std::string, Tensor> tensors;      // "parameters.layers.0.weight", "optimizer.step".
  std::map<std::string, std::string> values;  // Positions, counters.
  Settings settings;                          // Of the run; resuming compares them.
};

/// folder/checkpoint-NNNNNNN.safetensors.
[[nodiscard]] std::string checkpoint_path(const std::string& folder, std::int64_t iteration);

/// Writes it to checkpoint_path(), making the folder if need be. Then removes what interrupted
/// writing has left, checkpoints of later iterations, which belong to a run that this one replaces,
/// and those of earlier ones but for the latest `keep - 1`. Returns the path. Throws IoError naming
/// the file; the checkpoints that were there are then there still.
std::string write_checkpoint(const std::string& folder, const Checkpoint& checkpoint, int keep);

/// Removes all checkpoints in a folder, and what interrupted writing has left. Throws IoError
/// naming one that cannot be removed.
void remove_checkpoints(const std::string& folder);

/// Tensors are in memory of their own. Throws IoError when the file cannot be read, FormatError
/// when it is not a checkpoint of this version.
[[nodiscard]] Checkpoint read_checkpoint(const std::string& path);

/// The path of the folder's checkpoint with the highest iteration; nothing when there is none, or
/// no folder.
[[nodiscard]] std::optional<std::string> latest_checkpoint(const std::string& folder);

}  // namespace metal_candle
