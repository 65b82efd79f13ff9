// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The second half of reductions that are cut in chunks.
#pragma once

#include <cstdint>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::gpu {

/// Reduces partial results [parts][outputs], in order, to outputs of `dtype`. The partial results
/// are f32 where it is floating, 64 bits wide where it is i64, else 32.
class PartialReduction {
 public:
  PartialReduction(GpuDevice& device, ReduceKind kind, DType dtype, std::int64_t outputs,
                   std::uint32_t parts);
  void encode(Encoder& encoder, const void* partials, void* out) const;
  [[nodiscard]] std::size_t partial_bytes() const;

 private:
  const Function& function_;
  ReduceKind kind_;
  DType dtype_;
  std::int64_t outputs_;
  std::uint32_t parts_;
};

}  // namespace metal_candle::backend::gpu
