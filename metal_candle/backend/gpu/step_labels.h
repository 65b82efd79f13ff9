// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the steps of a command buffer are called, where a command may be a step, several as one, or
// a part of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "metal_candle/backend/backend.h"

namespace metal_candle::backend::gpu {

class StepLabels {
 public:
  void add(const StepLabel& label) { labels_.push_back(&label); }
  void clear() { labels_.clear(); }
  [[nodiscard]] std::size_t size() const { return labels_.size(); }
  /// What a command does that serves these steps and is the first of so many of them, which come
  /// first (WaveSink::next_serves).
  [[nodiscard]] StepLabel of_command(std::span<const std::uint32_t> steps, std::size_t begun) const;
  /// "matmul [2, 3] ... to softmax [2]": for errors, which devices do not place closer.
  [[nodiscard]] std::string describe() const;

 private:
  std::vector<const StepLabel*> labels_;
};

/// Name and detail.
[[nodiscard]] std::string text_of(const StepLabel& label);

}  // namespace metal_candle::backend::gpu
