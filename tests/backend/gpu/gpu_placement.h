// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs a GPU kernel at addresses that tests choose: next to an alignment, or over an operand.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "tests/backend/gpu/gpu_runner.h"

namespace metal_candle::testing {

/// Where the operands of a run lie, all of them contiguous.
struct Addresses {
  std::size_t shift = 0;  // Elements of each, from an address that is aligned to 64 bytes.
  int in_place = -1;      // The input that the output overwrites.
};

/// Memory for `bytes` bytes at a chosen distance from an aligned address.
class ShiftedMemory {
 public:
  ShiftedMemory(std::size_t bytes, std::size_t shift) : memory_(bytes + shift + 64 + kGuard) {
    std::memset(memory_.data(), kFill, memory_.size());
    const auto base = reinterpret_cast<std::uintptr_t>(memory_.data());
    start_ = (64 - base % 64) % 64 + shift;
    end_ = start_ + bytes;
  }
  [[nodiscard]] std::byte* data() { return memory_.data() + start_; }
  /// Nothing was written around it.
  [[nodiscard]] bool intact() const {
    const auto untouched = [](std::byte b) { return b == std::byte{kFill}; };
    return std::all_of(memory_.begin(), memory_.begin() + static_cast<std::ptrdiff_t>(start_),
                       untouched) &&
           std::all_of(memory_.begin() + static_cast<std::ptrdiff_t>(end_), memory_.end(),
                       untouched);
  }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr unsigned char kFill = 0xa5;
  std::vector<std::byte> memory_;
  std::size_t start_ = 0, end_ = 0;
};

/// Output 0 of the operation.
inline HostTensor run_gpu_kernel_at(const Operation& operation,
                                    std::span<const HostTensor* const> hosts,
                                    const TensorSpec& spec, Addresses addresses) {
  std::vector<ShiftedMemory> memories;
  std::vector<TensorLayout> layouts;
  std::vector<void*> inputs;
  memories.reserve(hosts.size() + 1);
  for (const HostTensor* host : hosts) {
    const std::size_t bytes = size_of(host->dtype());
    ShiftedMemory& memory = memories.emplace_back(host->spec.bytes(), addresses.shift * bytes);
    for (std::int64_t i = 0; i < host->size(); ++i) write_element(*host, i, memory.data(), i);
    layouts.push_back(TensorLayout::contiguous(host->spec));
    inputs.push_back(memory.data());
  }
  ShiftedMemory& own = memories.emplace_back(spec.bytes(), addresses.shift * size_of(spec.dtype));
  void* out =
      addresses.in_place < 0 ? own.data() : inputs[static_cast<std::size_t>(addresses.in_place)];
  const TensorLayout output = TensorLayout::contiguous(spec);
  const bool needed = true;
  const auto kernel = gpu_sim::sim_backend().make_kernel(
      {operation, layouts, std::span(&output, 1), std::span(&needed, 1)});
  ShiftedMemory scratch(kernel->scratch_bytes(), 0);
  gpu_sim::SimEncoder encoder;
  static_cast<const backend::gpu::GpuKernel&>(*kernel).encode(
      {inputs, std::span(&out, 1), scratch.data()}, encoder);
  for (const ShiftedMemory& memory : memories) EXPECT_TRUE(memory.intact());
  EXPECT_TRUE(scratch.intact());
  return read_contiguous(out, spec);
}

}  // namespace metal_candle::testing
