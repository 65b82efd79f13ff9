// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a command buffer holds on Metal: dispatches in order, each with the struct of arguments that
// it reads, and whether it waits for those before it. Two lists of one structure differ in the
// bytes of their arguments only, so that one indirect command buffer serves both.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/metal/hazards.h"
#include "metal_candle/backend/metal/metal_device.h"

namespace metal_candle::backend::metal {

struct Command {
  const MetalFunction* function = nullptr;
  gpu::Grid grid{};
  std::uint32_t threads = 0;
  std::uint32_t group_bytes = 0;  // That the kernel is given as it is dispatched.
  std::uint32_t arguments = 0;    // Where they begin in CommandList::arguments.
  std::uint32_t argument_bytes = 0;
  bool waits = false;  // For all commands before it.
};

class CommandList final : public gpu::Encoder {
 public:
  /// What is appended from here on reads and writes those bytes, in order.
  void begin_step(MetalDevice& device, std::span<const AddressRange> reads,
                  std::span<const AddressRange> writes);
  void zero(void* address, std::size_t bytes) override;
  void matmul(const gpu::Matmul& product, const gpu::MatmulOperands& operands) override;
  void dispatch_bytes(const gpu::Function& function, gpu::Grid grid, std::uint32_t threads,
                      std::uint32_t dynamic_group_bytes, const void* arguments,
                      std::size_t bytes) override;
  void clear();

  [[nodiscard]] const std::vector<Command>& commands() const { return commands_; }
  [[nodiscard]] std::span<const std::byte> arguments() const { return arguments_; }
  /// Of everything but arguments.
  [[nodiscard]] std::uint64_t structure_hash() const { return hash_; }
  [[nodiscard]] bool same_structure(const CommandList& other) const;
  [[nodiscard]] std::size_t barriers() const;

  /// Encodes commands [first, last), which read their arguments from `arguments`.
  void encode(MTL::ComputeCommandEncoder& encoder, const MTL::Buffer* arguments, std::size_t first,
              std::size_t last) const;

 private:
  MetalDevice* device_ = nullptr;
  std::vector<Command> commands_;
  std::vector<std::byte> arguments_;
  std::uint64_t hash_ = 0;
  Hazards hazards_;
  std::vector<AddressRange> reads_, writes_;  // Of the step.
  bool first_of_step_ = true;
  bool step_waits_ = false;
};

}  // namespace metal_candle::backend::metal
