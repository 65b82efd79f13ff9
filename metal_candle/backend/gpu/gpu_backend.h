// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The part of a backend that GPUs share: which operations have kernels, and how those want their
// operands. Memory and queues are the device's own.
#pragma once

#include <memory>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/gpu/gpu_device.h"

namespace metal_candle::backend::gpu {

class GpuBackend : public Backend {
 public:
  [[nodiscard]] bool supports(const Operation& operation,
                              std::span<const TensorSpec> inputs) const override;
  [[nodiscard]] InputLayout input_layout(const Operation& operation, int input) const override;
  [[nodiscard]] bool writes_rows_anywhere(const Operation& operation, int output) const override;
  [[nodiscard]] bool can_run_in_place(const Operation& operation, int input,
                                      int output) const override;
  [[nodiscard]] std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) const override;
  std::uint64_t finish_compiling() override { return gpu().finish_compiling(); }

  /// Where its kernels come from.
  [[nodiscard]] virtual GpuDevice& gpu() const = 0;
};

}  // namespace metal_candle::backend::gpu
