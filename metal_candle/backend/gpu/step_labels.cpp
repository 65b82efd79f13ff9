// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See step_labels.h.
#include "metal_candle/backend/gpu/step_labels.h"

#include <fmt/format.h>

namespace metal_candle::backend::gpu {

std::string text_of(const StepLabel& label) { return label.name + " " + label.detail; }

// A step that takes several commands has done all of its work in the first: what is read and
// computed is not known command by command.
StepLabel StepLabels::of_command(std::span<const std::uint32_t> steps, std::size_t begun) const {
  StepLabel label = *labels_[steps.front()];
  if (steps.size() > 1) label.detail += fmt::format(" and {} more", steps.size() - 1);
  label.flops = label.bytes = 0;
  for (const std::uint32_t step : steps.first(begun)) {
    label.flops += labels_[step]->flops;
    label.bytes += labels_[step]->bytes;
  }
  return label;
}

std::string StepLabels::describe() const {
  if (labels_.empty()) return "an empty command buffer";
  const std::string first = text_of(*labels_.front());
  if (labels_.size() == 1) return first;
  return fmt::format("one of {} steps from {} to {} (METAL_CANDLE_MODE=sync says which)",
                     labels_.size(), first, text_of(*labels_.back()));
}

}  // namespace metal_candle::backend::gpu
