// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// An elementwise operation as a program for the kernel that runs any (kernels/element_program.h):
// ready as soon as it is asked for, where a kernel of its own takes a compiler's time. Gives the
// same bits as that.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "metal_candle/backend/gpu/elementwise_source.h"
#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"

namespace metal_candle::backend::gpu {

/// Immutable.
class ElementProgram {
 public:
  /// Nothing where only a kernel of its own will do: integers and Arange, positions of 64 bits,
  /// and what is longer, or has more operands or values at a time, than that kernel takes.
  [[nodiscard]] static std::optional<ElementProgram> make(const Operation& operation,
                                                          const ElementwiseLoop& loop);
  /// `addresses`: the output's, then those of the inputs. Any that elements of their types have.
  void encode(GpuDevice& device, std::span<const void* const> addresses, Encoder& encoder) const;

 private:
  ElementProgram() = default;

  ElementProgramArguments arguments_{};
  std::uint32_t group_bytes_ = 0;
  Grid grid_;
};

}  // namespace metal_candle::backend::gpu
