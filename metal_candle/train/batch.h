// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a training step is given, and where the trainer gets it from.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// A target that does not count.
inline constexpr std::int32_t kIgnoredTarget = -100;

/// Sequences side by side, padded on the right.
struct TokenBatch {
  Tensor tokens;   // i32 [batch, length].
  Tensor targets;  // i32 [batch, length]: what should follow each token, or kIgnoredTarget.
  Tensor lengths;  // i32 [batch]: positions up to the last that has a target.

  [[nodiscard]] std::int64_t batch() const { return tokens.dim(0); }
  [[nodiscard]] std::int64_t length() const { return tokens.dim(1); }
  [[nodiscard]] TokenBatch to(Device device) const {
    return {tokens.to(device), targets.to(device), lengths.to(device)};
  }
};

/// Copies row-major tokens and targets to tensors. Throws ShapeError unless each has
/// batch * length elements.
[[nodiscard]] TokenBatch make_token_batch(std::span<const std::int32_t> tokens,
                                          std::span<const std::int32_t> targets, std::int64_t batch,
                                          std::int64_t length);

/// Gives batches, pass after pass over some data. The order may differ from pass to pass, but is a
/// function of the state: restoring what state() returned gives the same batches again.
class BatchSource {
 public:
  virtual ~BatchSource() = default;

  /// The next batch; nothing at the end of a pass, after which the next pass begins.
  virtual std::optional<TokenBatch> next() = 0;

  /// Where the source is, as a short text that goes into checkpoints.
  [[nodiscard]] virtual std::string state() const = 0;
  /// Throws FormatError when the text is not a state of this source.
  virtual void restore(const std::string& state) = 0;

  /// The longest batch there will be, as [batch, length], if that is known: memory is predicted for
  /// it.
  [[nodiscard]] virtual std::optional<Shape> largest() const { return {}; }
};

}  // namespace metal_candle
