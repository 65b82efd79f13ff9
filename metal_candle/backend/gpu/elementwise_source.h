// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels of elementwise operations, written as text of the dialect (dialect.h) for an operation
// and a class of layouts. Which axes there are, and along which of them an operand does not move or
// moves by 1, is part of the text; sizes, other strides and scalar attributes are arguments. So the
// layers of a model share a few kernels.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/gpu/gpu_device.h"

namespace metal_candle::backend::gpu {

/// How a thread comes by the elements of an operand that belong to a packet of the output.
enum class PacketAccess : std::uint8_t {
  kScalar,  // One element, for the whole output.
  kRepeat,  // One element, for the packet.
  kDense,   // One load.
  kGather,  // A load an element.
};

/// How the output is cut into packets, of up to 16 bytes, along the last of the collapsed axes.
struct ElementwiseLoop {
  ElementwiseLoop(std::span<const TensorLayout> inputs, const TensorLayout& output);
  /// Whether packets of the output and of dense operands lie at multiples of their size.
  /// `addresses`: the output's, then those of the inputs.
  [[nodiscard]] bool is_aligned(std::span<const void* const> addresses) const;

  struct Operand {
    DType dtype;
    Strides strides;
    PacketAccess access;
  };
  Shape shape;  // On axes merged as far as all operands allow.
  std::vector<Operand> operands;
  DType output;
  std::int64_t count;    // Elements.
  std::int64_t packets;  // Whole ones. With one axis, up to packet - 1 elements come after them.
  int packet = 1;        // Elements. Divides the last axis if there are several.
  bool wide = false;     // Positions need 64 bits.
};

/// Packets that a thread loads before it computes, `bytes` bytes each, so that all threads of a
/// multiprocessor cover the memory's latency.
[[nodiscard]] int packets_in_flight(std::int64_t bytes, int instructions);

struct ElementwiseSource {
  std::string name;  // What it does, and a hash of the text.
  std::string text;
  /// For the kernel's struct; the addresses of the output and the inputs, which come first, are 0.
  std::vector<std::byte> arguments;
  int in_flight = 1;  // Packets that a thread takes.
};
inline constexpr int kElementwiseThreads = 256;  // At most; a multiple of 32.

/// For addresses of which is_aligned() says `aligned`. Two texts that take the same arguments,
/// because compiling takes time and most programs never need the second. Throws DTypeError when a
/// dtype does not have an operation.
[[nodiscard]] ElementwiseSource write_elementwise(const Operation& operation,
                                                  const ElementwiseLoop& loop, bool aligned = true);

}  // namespace metal_candle::backend::gpu
