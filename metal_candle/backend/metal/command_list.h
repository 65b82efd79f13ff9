// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a command buffer holds on Metal: dispatches in order, each with the struct of arguments that
// it reads, and whether it waits for those before it; the others may run at once. Two lists of one
// structure differ in the bytes of their arguments only, so that one indirect command buffer serves
// both.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "metal_candle/backend/gpu/wave_encoder.h"
#include "metal_candle/backend/metal/metal_device.h"

namespace metal_candle::backend::metal {

struct Command {
  const MetalFunction* function = nullptr;
  gpu::Grid grid{};
  std::uint32_t threads = 0;
  std::uint32_t group_bytes = 0;  // That the kernel is given as it is dispatched.
  std::uint32_t arguments = 0;    // Where they begin in CommandList::arguments.
  std::uint32_t argument_bytes = 0;
  bool waits = false;            // For all commands before it.
  std::uint32_t first_step = 0;  // Where those that it serves begin in CommandList::steps.
  std::uint32_t step_count = 0;
  std::uint32_t begun = 0;  // It is the first command of so many of them, which come first.
};

class CommandList final : public gpu::WaveSink {
 public:
  explicit CommandList(MetalDevice& device) : device_(&device) {}
  void begin_group() override { waits_ = !commands_.empty(); }
  void next_serves(std::span<const std::uint32_t> steps, std::size_t begun) override;
  void zero(void* address, std::size_t bytes) override;
  /// Never: products are dispatches.
  void matmul(const gpu::Matmul& product, const gpu::MatmulOperands& operands) override;
  void dispatch_bytes(const gpu::Function& function, gpu::Grid grid, std::uint32_t threads,
                      std::uint32_t dynamic_group_bytes, const void* arguments,
                      std::size_t bytes) override;
  void clear();

  [[nodiscard]] const std::vector<Command>& commands() const { return commands_; }
  [[nodiscard]] std::span<const std::byte> arguments() const { return arguments_; }
  /// The steps that a command serves, or serves a part of.
  [[nodiscard]] std::span<const std::uint32_t> steps_of(const Command& command) const {
    return std::span(steps_).subspan(command.first_step, command.step_count);
  }
  /// Of everything but arguments.
  [[nodiscard]] std::uint64_t structure_hash() const { return hash_; }
  [[nodiscard]] bool same_structure(const CommandList& other) const;
  [[nodiscard]] std::size_t barriers() const;

  /// Encodes commands [first, last), which read their arguments from `arguments`.
  void encode(MTL::ComputeCommandEncoder& encoder, const MTL::Buffer* arguments, std::size_t first,
              std::size_t last) const;

 private:
  MetalDevice* device_;
  std::vector<Command> commands_;
  std::vector<std::byte> arguments_;
  std::vector<std::uint32_t> steps_;
  std::uint32_t steps_of_next_ = 0;  // How many of the last.
  std::uint32_t begun_by_next_ = 0;
  std::uint64_t hash_ = 0;
  bool waits_ = false;  // The next command.
};

}  // namespace metal_candle::backend::metal
