// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See indirect_cache.h.
#include "metal_candle/backend/metal/indirect_cache.h"

#include <fmt/format.h>

#include <cstring>
#include <iterator>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::metal {

IndirectPlan::IndirectPlan(MetalDevice& device, const CommandList& list)
    : device_(device), list_(list) {
  const auto descriptor = NS::TransferPtr(MTL::IndirectCommandBufferDescriptor::alloc()->init());
  descriptor->setCommandTypes(MTL::IndirectCommandTypeConcurrentDispatch);
  descriptor->setInheritPipelineState(false);
  descriptor->setInheritBuffers(false);
  descriptor->setMaxKernelBufferBindCount(1);
  descriptor->setMaxKernelThreadgroupMemoryBindCount(1);
  const std::size_t count = list.commands().size();
  commands_ = NS::TransferPtr(device.handle()->newIndirectCommandBuffer(
      descriptor.get(), count, MTL::ResourceStorageModeShared));
  if (!commands_) {
    throw OutOfMemoryError(
        fmt::format("metal: the device has no indirect command buffer of {} commands", count));
  }
  arguments_ = device.make_argument_buffer(list.arguments().size());
  point_at(list);
  for (std::size_t i = 0; i < count; ++i) {
    const Command& command = list.commands()[i];
    MTL::IndirectComputeCommand* to = commands_->indirectComputeCommand(i);
    to->setComputePipelineState(command.function->pipeline());
    to->setKernelBuffer(arguments_.get(), command.arguments, 0);
    if (command.group_bytes > 0) to->setThreadgroupMemoryLength(command.group_bytes, 0);
    if (command.waits) to->setBarrier();
    to->concurrentDispatchThreadgroups(MTL::Size(command.grid.x, command.grid.y, command.grid.z),
                                       MTL::Size(command.threads, 1, 1));
  }
  device.make_resident(commands_.get());
}

IndirectPlan::~IndirectPlan() {
  device_.give_back(arguments_->contents());
  device_.end_residency(commands_.get());
}

void IndirectPlan::point_at(const CommandList& list) {
  std::memcpy(arguments_->contents(), list.arguments().data(), list.arguments().size());
}

void IndirectPlan::execute(MTL::ComputeCommandEncoder& encoder) const {
  if (!device_.has_residency()) {
    encoder.useResource(arguments_.get(), MTL::ResourceUsageRead);
    encoder.useResource(commands_.get(), MTL::ResourceUsageRead);
  }
  encoder.executeCommandsInBuffer(commands_.get(), NS::Range(0, list_.commands().size()));
}

IndirectPlan* IndirectCache::find(const CommandList& list) {
  const std::uint64_t structure = list.structure_hash();
  const std::size_t length = list.commands().size();
  const bool suits = device_.can_replay() && length >= kLeastCommands && length <= kMostCommands;
  std::size_t count = 0;
  auto [it, end] = by_structure_.equal_range(structure);
  for (; suits && it != end; ++it) {
    const std::list<Entry>::iterator place = it->second;
    IndirectPlan& plan = **place;
    if (!plan.list().same_structure(list)) continue;
    ++count;
    if (plan.busy) continue;
    plans_.splice(plans_.begin(), plans_, place);
    plan.point_at(list);
    plan.busy = true;
    ++statistics_.replayed;
    return &plan;
  }
  if (seen_.size() > kMaxSeen) seen_.clear();
  if (!suits || count == kPlansOfStructure || seen_[structure]++ == 0) {
    ++statistics_.direct;
    return nullptr;
  }
  plans_.push_front(std::make_unique<IndirectPlan>(device_, list));
  by_structure_.emplace(structure, plans_.begin());
  IndirectPlan* made = plans_.front().get();
  made->busy = true;
  ++statistics_.made;
  ++statistics_.replayed;
  evict();
  return made;
}

void IndirectCache::evict() {
  for (auto last = std::prev(plans_.end()); plans_.size() > kCapacity && last != plans_.begin();) {
    const auto candidate = last--;
    if ((*candidate)->busy) continue;
    auto [it, end] = by_structure_.equal_range((*candidate)->list().structure_hash());
    while (it != end && it->second != candidate) ++it;
    by_structure_.erase(it);
    plans_.erase(candidate);
  }
}

}  // namespace metal_candle::backend::metal
