// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See command_list.h.
#include "metal_candle/backend/metal/command_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "metal_candle/backend/metal/kernels/arguments.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::metal {
namespace {

constexpr std::size_t kArgumentAlignment = 64;
constexpr std::uint32_t kZeroThreads = 256;
constexpr std::uint32_t kGroupBytesUnit = 16;  // Of what a dispatch may ask for.

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value;
  hash *= 0x9e3779b97f4a7c15u;
  return std::rotl(hash, 29);
}

}  // namespace

void CommandList::next_serves(std::span<const std::uint32_t> steps, std::size_t begun) {
  begun_by_next_ = static_cast<std::uint32_t>(begun);
  steps_.insert(steps_.end(), steps.begin(), steps.end());
  steps_of_next_ = static_cast<std::uint32_t>(steps.size());
}

void CommandList::zero(void* address, std::size_t bytes) {
  if (bytes == 0) return;
  dispatch(device_->function("zero_memory"),
           {gpu::groups_for(static_cast<std::int64_t>(bytes / 16 + 1), kZeroThreads)}, kZeroThreads,
           ZeroArguments{address, bytes});
}

void CommandList::matmul(const gpu::Matmul&, const gpu::MatmulOperands&) {
  throw std::logic_error("metal: a product that was not encoded as dispatches");
}

void CommandList::dispatch_bytes(const gpu::Function& function, gpu::Grid grid,
                                 std::uint32_t threads, std::uint32_t dynamic_group_bytes,
                                 const void* arguments, std::size_t bytes) {
  const auto& kernel = static_cast<const MetalFunction&>(function);
  if (threads > kernel.pipeline()->maxTotalThreadsPerThreadgroup()) {
    throw DeviceError(fmt::format("metal: {} can have {} threads a group on this GPU, not {}",
                                  kernel.name(), kernel.pipeline()->maxTotalThreadsPerThreadgroup(),
                                  threads));
  }
  Command command;
  command.function = &kernel;
  command.grid = grid;
  command.threads = threads;
  command.group_bytes =
      static_cast<std::uint32_t>(gpu::round_up(dynamic_group_bytes, kGroupBytesUnit));
  command.arguments = static_cast<std::uint32_t>(arguments_.size());
  command.argument_bytes = static_cast<std::uint32_t>(bytes);
  command.waits = std::exchange(waits_, false);
  command.first_step = static_cast<std::uint32_t>(steps_.size()) - steps_of_next_;
  command.step_count = steps_of_next_;
  command.begun = begun_by_next_;
  arguments_.resize(gpu::round_up(arguments_.size() + bytes, kArgumentAlignment));
  std::memcpy(arguments_.data() + command.arguments, arguments, bytes);
  hash_ = mix(hash_, reinterpret_cast<std::uintptr_t>(&kernel) + (command.waits ? 1 : 0));
  hash_ = mix(hash_, (std::uint64_t{grid.x} << 32) + threads);
  hash_ = mix(hash_,
              (std::uint64_t{grid.y} << 32) + grid.z + (std::uint64_t{command.group_bytes} << 16));
  commands_.push_back(command);
}

void CommandList::clear() {
  commands_.clear();
  arguments_.clear();
  steps_.clear();
  steps_of_next_ = 0;
  hash_ = 0;
  waits_ = false;
}

bool CommandList::same_structure(const CommandList& other) const {
  return hash_ == other.hash_ &&
         std::equal(commands_.begin(), commands_.end(), other.commands_.begin(),
                    other.commands_.end(), [](const Command& a, const Command& b) {
                      return a.function == b.function && a.grid.x == b.grid.x &&
                             a.grid.y == b.grid.y && a.grid.z == b.grid.z &&
                             a.threads == b.threads && a.group_bytes == b.group_bytes &&
                             a.argument_bytes == b.argument_bytes && a.waits == b.waits;
                    });
}

std::size_t CommandList::barriers() const {
  return static_cast<std::size_t>(
      std::count_if(commands_.begin(), commands_.end(), [](const Command& c) { return c.waits; }));
}

void CommandList::encode(MTL::ComputeCommandEncoder& encoder, const MTL::Buffer* arguments,
                         std::size_t first, std::size_t last) const {
  const MetalFunction* bound = nullptr;
  for (std::size_t i = first; i < last; ++i) {
    const Command& command = commands_[i];
    if (command.waits && i > first) encoder.memoryBarrier(MTL::BarrierScopeBuffers);
    if (command.function != bound) {
      encoder.setComputePipelineState(command.function->pipeline());
      bound = command.function;
    }
    // The buffer is bound once; what follows moves along it.
    if (i == first) {
      encoder.setBuffer(arguments, command.arguments, 0);
    } else {
      encoder.setBufferOffset(command.arguments, 0);
    }
    if (command.group_bytes > 0) encoder.setThreadgroupMemoryLength(command.group_bytes, 0);
    encoder.dispatchThreadgroups(MTL::Size(command.grid.x, command.grid.y, command.grid.z),
                                 MTL::Size(command.threads, 1, 1));
  }
}

}  // namespace metal_candle::backend::metal
