// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the suite ops measures: operations with their operands, under the names by which peers know
// them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "metal_candle/core/device.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle::bench {

/// Makes random operands on a device, evaluated.
class Operands {
 public:
  explicit Operands(Device device);
  Tensor operator()(const Shape& shape, DType dtype = DType::kF32, double scale = 1);

 private:
  Tensor key_;
  std::uint32_t next_ = 0;
};

struct OpsCase {
  /// Most microseconds on an H200.
  struct Goals {
    std::optional<double> evaluated, queued;
  };

  std::string name;  // And the peers' command.
  DType dtype = DType::kF32;
  double bytes = 0;  // That have to be read and written.
  double flops = 0;
  int depth = 100;                                // Evaluations queued at once.
  std::function<std::function<Tensor()>()> make;  // Makes the operands, and then what to time.
  Goals goals;
};

/// All that fit a device: a GPU gets larger ones.
[[nodiscard]] std::vector<OpsCase> ops_cases(Device device);

}  // namespace metal_candle::bench
