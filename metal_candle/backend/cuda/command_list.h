// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a command buffer holds on CUDA: launches, memsets and matrix products in order. Two lists of
// one structure differ in addresses only, so that one graph serves both.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "metal_candle/backend/cuda/cuda_device.h"
#include "metal_candle/backend/cuda/cuda_matmul.h"
#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/gpu/wave_encoder.h"

namespace metal_candle::backend::cuda {

struct Command {
  enum class Kind : std::uint8_t { kDispatch, kZero, kMatmul };
  Kind kind = Kind::kDispatch;
  const void* what = nullptr;  // A CudaFunction or a CudaMatmul; null for kZero.
  std::uint64_t identity = 0;  // Of what, for ever.
  gpu::Grid grid{};
  std::uint32_t threads = 0;
  std::uint32_t dynamic_group_bytes = 0;
  std::uint32_t arguments = 0;  // Where they begin in CommandList::arguments.
  std::uint32_t argument_bytes = 0;
  std::uint32_t first_step = 0;  // Where those that it serves begin in CommandList::steps.
  std::uint32_t step_count = 0;
  std::uint32_t group = 0;  // Commands of a group need none of it, and all of those before it.
  std::uint32_t begun = 0;  // It is the first command of so many of them, which come first.
};

struct ZeroArguments {
  void* address;
  std::uint64_t bytes;
};

class CommandList final : public gpu::WaveSink {
 public:
  void begin_group() override { ++group_; }
  void next_serves(std::span<const std::uint32_t> steps, std::size_t begun) override;
  void zero(void* address, std::size_t bytes) override;
  void matmul(const gpu::Matmul& product, const gpu::MatmulOperands& operands) override;
  void dispatch_bytes(const gpu::Function& function, gpu::Grid grid, std::uint32_t threads,
                      std::uint32_t dynamic_group_bytes, const void* arguments,
                      std::size_t bytes) override;
  /// All of another list after what is here, but for the steps that its commands serve.
  void append(const CommandList& other);
  void clear();

  [[nodiscard]] const std::vector<Command>& commands() const { return commands_; }
  [[nodiscard]] std::span<const std::byte> arguments() const { return arguments_; }
  [[nodiscard]] const std::byte* arguments_of(const Command& command) const {
    return arguments_.data() + command.arguments;
  }
  /// The steps that a command serves, or serves a part of.
  [[nodiscard]] std::span<const std::uint32_t> steps_of(const Command& command) const {
    return std::span(steps_).subspan(command.first_step, command.step_count);
  }
  /// Of everything but addresses.
  [[nodiscard]] std::uint64_t structure_hash() const { return hash_; }
  [[nodiscard]] bool same_structure(const CommandList& other) const;

  /// Runs one command on a stream, by itself.
  void launch(const Command& command, CUstream stream) const;

 private:
  void append(Command command, const void* arguments, std::size_t bytes);

  std::vector<Command> commands_;
  std::vector<std::byte> arguments_;
  std::vector<std::uint32_t> steps_;
  std::uint32_t steps_of_next_ = 0;  // How many of the last.
  std::uint32_t begun_by_next_ = 0;
  std::uint32_t group_ = 0;
  std::uint64_t hash_ = 0;
};

}  // namespace metal_candle::backend::cuda
