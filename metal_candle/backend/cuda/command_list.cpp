// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See command_list.h.
#include "metal_candle/backend/cuda/command_list.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace metal_candle::backend::cuda {
namespace {

constexpr std::size_t kArgumentAlignment = 16;

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

void CommandList::append(const CommandList& other) {
  const std::uint32_t before = group_;
  steps_of_next_ = begun_by_next_ = 0;
  for (const Command& command : other.commands_) {
    group_ = before + command.group;
    append(command, other.arguments_of(command), command.argument_bytes);
  }
  group_ = before + other.group_;
}

void CommandList::append(Command command, const void* arguments, std::size_t bytes) {
  command.first_step = static_cast<std::uint32_t>(steps_.size()) - steps_of_next_;
  command.step_count = steps_of_next_;
  command.begun = begun_by_next_;
  command.group = group_;
  command.arguments = static_cast<std::uint32_t>(arguments_.size());
  command.argument_bytes = static_cast<std::uint32_t>(bytes);
  arguments_.resize((arguments_.size() + bytes + kArgumentAlignment - 1) / kArgumentAlignment *
                    kArgumentAlignment);
  std::memcpy(arguments_.data() + command.arguments, arguments, bytes);
  hash_ = mix(hash_, command.identity + static_cast<std::uint64_t>(command.kind) +
                         (std::uint64_t{command.group} << 48));
  hash_ = mix(hash_, (std::uint64_t{command.grid.x} << 32) + command.threads);
  hash_ = mix(hash_, (std::uint64_t{command.grid.y} << 32) + command.grid.z +
                         (std::uint64_t{command.dynamic_group_bytes} << 16));
  commands_.push_back(command);
}

void CommandList::zero(void* address, std::size_t bytes) {
  if (bytes == 0) return;
  const ZeroArguments arguments{address, bytes};
  append({.kind = Command::Kind::kZero}, &arguments, sizeof(arguments));
}

void CommandList::matmul(const gpu::Matmul& product, const gpu::MatmulOperands& operands) {
  const auto& one = static_cast<const CudaMatmul&>(product);
  one.prepare(operands);
  append({.kind = Command::Kind::kMatmul, .what = &one, .identity = product.id()}, &operands,
         sizeof(operands));
}

void CommandList::dispatch_bytes(const gpu::Function& function, gpu::Grid grid,
                                 std::uint32_t threads, std::uint32_t dynamic_group_bytes,
                                 const void* arguments, std::size_t bytes) {
  const auto& kernel = static_cast<const CudaFunction&>(function);
  static_cast<void>(kernel.handle());  // What fails is told on the thread that encodes.
  if (dynamic_group_bytes > (48u << 10)) kernel.allow_group_bytes(dynamic_group_bytes);
  append({.kind = Command::Kind::kDispatch,
          .what = &kernel,
          .identity = reinterpret_cast<std::uintptr_t>(&kernel),
          .grid = grid,
          .threads = threads,
          .dynamic_group_bytes = dynamic_group_bytes},
         arguments, bytes);
}

void CommandList::clear() {
  commands_.clear();
  arguments_.clear();
  steps_.clear();
  steps_of_next_ = 0;
  group_ = 0;
  hash_ = 0;
}

bool CommandList::same_structure(const CommandList& other) const {
  return hash_ == other.hash_ &&
         std::equal(commands_.begin(), commands_.end(), other.commands_.begin(),
                    other.commands_.end(), [](const Command& a, const Command& b) {
                      return a.kind == b.kind && a.identity == b.identity && a.group == b.group &&
                             a.grid.x == b.grid.x && a.grid.y == b.grid.y && a.grid.z == b.grid.z &&
                             a.threads == b.threads &&
                             a.dynamic_group_bytes == b.dynamic_group_bytes &&
                             a.argument_bytes == b.argument_bytes;
                    });
}

void CommandList::launch(const Command& command, CUstream stream) const {
  const std::byte* arguments = arguments_of(command);
  switch (command.kind) {
    case Command::Kind::kDispatch: {
      void* parameters[] = {const_cast<std::byte*>(arguments)};
      const auto& function = *static_cast<const CudaFunction*>(command.what);
      check(driver().cuLaunchKernel(function.handle(), command.grid.x, command.grid.y,
                                    command.grid.z, command.threads, 1, 1,
                                    command.dynamic_group_bytes, stream, parameters, nullptr),
            function.name().c_str());
      break;
    }
    case Command::Kind::kZero: {
      ZeroArguments zero;
      std::memcpy(&zero, arguments, sizeof(zero));
      check(driver().cuMemsetD8Async(reinterpret_cast<CUdeviceptr>(zero.address), 0, zero.bytes,
                                     stream),
            "cuMemsetD8Async");
      break;
    }
    case Command::Kind::kMatmul: {
      gpu::MatmulOperands operands;
      std::memcpy(&operands, arguments, sizeof(operands));
      static_cast<const CudaMatmul*>(command.what)->run(operands, stream);
      break;
    }
  }
}

}  // namespace metal_candle::backend::cuda
