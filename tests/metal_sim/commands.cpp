// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What is encoded, and whether it may be.
#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/metal_sim/internal.h"

namespace metal_sim {
namespace {
constexpr std::uint64_t kMostGroupBytes = std::uint64_t{32} << 10;
constexpr std::uint64_t kGroupBytesUnit = 16;
}  // namespace

std::shared_ptr<Dispatch> make_dispatch(const MTL::Bindings& bindings, MTL::Size groups,
                                        MTL::Size threads) {
  if (!bindings.pipeline) violation("a dispatch without a pipeline");
  bindings.pipeline->check();
  const Kernel& kernel = *bindings.pipeline->kernel;
  const NS::UInteger count = threads.width * threads.height * threads.depth;
  if (count == 0 || groups.width * groups.height * groups.depth == 0) {
    violation(fmt::format("{}: a dispatch of nothing", kernel.name));
  }
  if (count > static_cast<NS::UInteger>(kernel.max_threads) || threads.width != count) {
    violation(fmt::format("{}: {} threads a group, of at most {}", kernel.name, count,
                          kernel.max_threads));
  }
  auto dispatch = std::make_shared<Dispatch>(Dispatch{&kernel, groups, threads, {}, 0, {}, false});
  for (int i = 0; i < kMostBindings; ++i) {
    if ((kernel.buffers >> i & 1) == 0) continue;
    const auto it = bindings.buffers.find(static_cast<NS::UInteger>(i));
    if (it == bindings.buffers.end() || !it->second.buffer) {
      violation(fmt::format("{}: argument {} is not bound", kernel.name, i));
    }
    const auto& [buffer, offset] = it->second;
    buffer->check();
    if (i == 0 && offset + kernel.argument_bytes > buffer->length()) {
      violation(fmt::format("{}: arguments of {} bytes at {} of a buffer of {} bytes", kernel.name,
                            kernel.argument_bytes, offset, buffer->length()));
    }
    if (i == 0 && offset % kernel.argument_alignment != 0) {
      violation(fmt::format("{}: arguments at {}, which is no multiple of {}", kernel.name, offset,
                            kernel.argument_alignment));
    }
    dispatch->bindings.buffers[i] = buffer->mapping->device + offset;
    dispatch->bound.push_back(buffer->mapping);
  }
  std::uint64_t bytes = (kernel.static_group_bytes + 15) / 16 * 16;
  for (int i = 0; i < kMostBindings; ++i) {
    if ((kernel.group_memories >> i & 1) == 0) continue;
    const auto it = bindings.group_bytes.find(static_cast<NS::UInteger>(i));
    if (it == bindings.group_bytes.end()) {
      violation(fmt::format("{}: threadgroup memory {} has no length", kernel.name, i));
    }
    dispatch->bindings.group_offsets[i] = static_cast<std::uint32_t>(bytes);
    bytes += it->second;
  }
  if (bytes > kMostGroupBytes) {
    violation(fmt::format("{}: {} bytes of threadgroup memory, of at most {}", kernel.name, bytes,
                          kMostGroupBytes));
  }
  dispatch->group_bytes = static_cast<std::uint32_t>(bytes);
  return dispatch;
}

namespace {

void bind_group_bytes(MTL::Bindings& bindings, NS::UInteger length, NS::UInteger index) {
  if (length % kGroupBytesUnit != 0) {
    violation(
        fmt::format("threadgroup memory of {} bytes, no multiple of {}", length, kGroupBytesUnit));
  }
  bindings.group_bytes[index] = length;
}

NS::SharedPtr<MTL::Buffer> retained(const MTL::Buffer* buffer) {
  if (buffer == nullptr) return {};
  buffer->check();
  return NS::RetainPtr(const_cast<MTL::Buffer*>(buffer));
}

// The arguments of two dispatches are the same bytes or have none in common.
void note_arguments(std::map<std::uint64_t, std::uint64_t>& ranges, const Dispatch& dispatch) {
  const auto begin = reinterpret_cast<std::uint64_t>(dispatch.bindings.buffers[0]);
  const std::uint64_t end = begin + dispatch.kernel->argument_bytes;
  auto next = ranges.lower_bound(begin);
  const bool same = next != ranges.end() && next->first == begin && next->second == end;
  if (same) return;
  const bool after = next != ranges.end() && next->first < end;
  const bool before = next != ranges.begin() && std::prev(next)->second > begin;
  if (after || before) {
    violation(
        fmt::format("{}: its arguments overlap those of another dispatch", dispatch.kernel->name));
  }
  ranges[begin] = end;
}

}  // namespace
}  // namespace metal_sim

namespace MTL {

using metal_sim::violation;

// ---- Pipelines

void ComputePipelineDescriptor::setComputeFunction(const Function* function) {
  check();
  function->check();
  kernel = function->kernel;
}
void ComputePipelineDescriptor::setLabel(const NS::String* label) {
  check();
  label->check();
}
void ComputePipelineDescriptor::setSupportIndirectCommandBuffers(bool supported) {
  check();
  indirect = supported;
}
NS::UInteger ComputePipelineState::maxTotalThreadsPerThreadgroup() const {
  check();
  return static_cast<NS::UInteger>(kernel->max_threads);
}
NS::UInteger ComputePipelineState::threadExecutionWidth() const {
  check();
  return 32;
}
NS::UInteger ComputePipelineState::staticThreadgroupMemoryLength() const {
  check();
  return kernel->static_group_bytes;
}

// ---- Encoders

void ComputeCommandEncoder::check_encoding(const char* what) const {
  check();
  if (ended) violation(fmt::format("{} after endEncoding", what));
  owner->check_open(what);
}

void ComputeCommandEncoder::setComputePipelineState(const ComputePipelineState* pipeline) {
  check_encoding("setComputePipelineState");
  pipeline->check();
  bindings.pipeline = NS::RetainPtr(const_cast<ComputePipelineState*>(pipeline));
}
void ComputeCommandEncoder::setBuffer(const Buffer* buffer, NS::UInteger offset,
                                      NS::UInteger index) {
  check_encoding("setBuffer");
  bindings.buffers[index] = {metal_sim::retained(buffer), offset};
}
void ComputeCommandEncoder::setBufferOffset(NS::UInteger offset, NS::UInteger index) {
  check_encoding("setBufferOffset");
  if (!bindings.buffers[index].buffer) violation("setBufferOffset where no buffer is bound");
  bindings.buffers[index].offset = offset;
}
void ComputeCommandEncoder::setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index) {
  check_encoding("setThreadgroupMemoryLength");
  metal_sim::bind_group_bytes(bindings, length, index);
}

void ComputeCommandEncoder::add(std::shared_ptr<metal_sim::Dispatch> dispatch) {
  metal_sim::note_arguments(owner->argument_ranges, *dispatch);
  for (const auto& mapping : dispatch->bound) used.insert(mapping);
  if (!concurrent && !segments.back().dispatches.empty()) segments.emplace_back();
  segments.back().dispatches.push_back(std::move(dispatch));
}
void ComputeCommandEncoder::dispatchThreadgroups(Size groups, Size threads) {
  check_encoding("dispatchThreadgroups");
  add(metal_sim::make_dispatch(bindings, groups, threads));
}
void ComputeCommandEncoder::memoryBarrier(BarrierScope) {
  check_encoding("memoryBarrier");
  ++metal_sim::counters().barriers;
  if (!segments.back().dispatches.empty()) segments.emplace_back();
}

void ComputeCommandEncoder::executeCommandsInBuffer(const IndirectCommandBuffer* buffer,
                                                    NS::Range range) {
  check_encoding("executeCommandsInBuffer");
  buffer->check();
  if (range.location + range.length > buffer->commands.size()) {
    violation(fmt::format("commands {} to {} of an indirect command buffer of {}", range.location,
                          range.location + range.length, buffer->commands.size()));
  }
  auto* commands = const_cast<IndirectCommandBuffer*>(buffer);
  ++commands->in_flight;
  indirect.push_back(NS::RetainPtr(commands));
  for (NS::UInteger i = range.location; i < range.location + range.length; ++i) {
    const IndirectComputeCommand& command = *buffer->commands[i].get();
    if (!command.dispatch) violation(fmt::format("indirect command {} was never encoded", i));
    if (command.barrier && !segments.back().dispatches.empty()) segments.emplace_back();
    // What it reads has to be resident by other means: nothing is bound here.
    metal_sim::note_arguments(owner->argument_ranges, *command.dispatch);
    segments.back().dispatches.push_back(command.dispatch);
  }
  segments.emplace_back();
}

void ComputeCommandEncoder::useResource(const Resource* resource, ResourceUsage usage) {
  useResources(&resource, 1, usage);
}
void ComputeCommandEncoder::useResources(const Resource* const resources[], NS::UInteger count,
                                         ResourceUsage) {
  check_encoding("useResources");
  for (NS::UInteger i = 0; i < count; ++i) {
    resources[i]->check();
    if (resources[i]->mapping) used.insert(resources[i]->mapping);
  }
}
void ComputeCommandEncoder::waitForFence(const Fence* fence) {
  check_encoding("waitForFence");
  fence->check();
  waits.insert(fence);
}
void ComputeCommandEncoder::updateFence(const Fence* fence) {
  check_encoding("updateFence");
  fence->check();
  updates.insert(fence);
}
void CommandEncoder::endEncoding() {
  check();
  if (ended) violation("endEncoding after endEncoding");
  owner->check_open("endEncoding");
  ended = true;
}
void CommandEncoder::setLabel(const NS::String* label) {
  check();
  label->check();
}
void ComputeCommandEncoder::dispose() {
  bindings = {};
  segments.clear();
  used.clear();
  for (const auto& buffer : indirect) --buffer->in_flight;
  indirect.clear();
}

// ---- Indirect commands

void IndirectCommandBufferDescriptor::setCommandTypes(IndirectCommandType value) {
  check();
  types = value;
}
void IndirectCommandBufferDescriptor::setInheritBuffers(bool inherit) {
  check();
  if (inherit) violation("inherited buffers are not simulated");
}
void IndirectCommandBufferDescriptor::setInheritPipelineState(bool inherit) {
  check();
  if (inherit) violation("inherited pipelines are not simulated");
}
void IndirectCommandBufferDescriptor::setMaxKernelBufferBindCount(NS::UInteger count) {
  check();
  buffers = count;
}
void IndirectCommandBufferDescriptor::setMaxKernelThreadgroupMemoryBindCount(NS::UInteger count) {
  check();
  group_memories = count;
}

namespace {

void check_idle(const IndirectComputeCommand& command, const char* what) {
  command.check();
  if (command.owner->in_flight.load() > 0) {
    violation(fmt::format("{} of an indirect command that is on the device", what));
  }
}

}  // namespace

void IndirectComputeCommand::setComputePipelineState(const ComputePipelineState* pipeline) {
  check_idle(*this, "setComputePipelineState");
  pipeline->check();
  if (!pipeline->indirect) {
    violation(fmt::format("{}: its pipeline does not support indirect command buffers",
                          pipeline->kernel->name));
  }
  bindings.pipeline = NS::RetainPtr(const_cast<ComputePipelineState*>(pipeline));
}
void IndirectComputeCommand::setKernelBuffer(const Buffer* buffer, NS::UInteger offset,
                                             NS::UInteger index) {
  check_idle(*this, "setKernelBuffer");
  if (index >= owner->most_buffers) violation(fmt::format("kernel buffer {} is too many", index));
  bindings.buffers[index] = {metal_sim::retained(buffer), offset};
}
void IndirectComputeCommand::setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index) {
  check_idle(*this, "setThreadgroupMemoryLength");
  if (index >= owner->most_group_memories) {
    violation(fmt::format("threadgroup memory {} is too many", index));
  }
  metal_sim::bind_group_bytes(bindings, length, index);
}
void IndirectComputeCommand::setBarrier() {
  check_idle(*this, "setBarrier");
  barrier = true;
}
void IndirectComputeCommand::concurrentDispatchThreadgroups(Size groups, Size threads) {
  check_idle(*this, "concurrentDispatchThreadgroups");
  dispatch = metal_sim::make_dispatch(bindings, groups, threads);
  dispatch->bound.clear();
  dispatch->indirect = true;
}
void IndirectComputeCommand::dispose() {
  bindings = {};
  dispatch.reset();
}
IndirectComputeCommand* IndirectCommandBuffer::indirectComputeCommand(NS::UInteger index) {
  check();
  if (index >= commands.size()) violation(fmt::format("indirect command {}", index));
  return commands[index].get();
}
void IndirectCommandBuffer::dispose() {
  if (in_flight.load() > 0) violation("an indirect command buffer on the device is released");
  commands.clear();
  Allocation::dispose();
}

// ---- Command buffers

void CommandBufferDescriptor::setRetainedReferences(bool) { check(); }
void CommandBufferDescriptor::setErrorOptions(CommandBufferErrorOption) { check(); }

CommandBuffer* CommandQueue::commandBuffer(const CommandBufferDescriptor* descriptor) {
  check();
  descriptor->check();
  auto* buffer = new CommandBuffer;
  buffer->queue = NS::RetainPtr(this);
  return buffer->autorelease();
}
void CommandQueue::addResidencySet(const ResidencySet* set) {
  check();
  set->check();
  residency.push_back(NS::RetainPtr(const_cast<ResidencySet*>(set)));
  metal_sim::note_residency_change();
}
void CommandQueue::setLabel(const NS::String* label) {
  check();
  label->check();
}

void CommandBuffer::check_open(const char* what) const {
  check();
  if (state.load() >= CommandBufferStatusCommitted) violation(fmt::format("{} after commit", what));
}
ComputeCommandEncoder* CommandBuffer::computeCommandEncoder(DispatchType type) {
  check_open("computeCommandEncoder");
  for (const auto& encoder : encoders) {
    if (!encoder->ended) violation("an encoder is made while another is open");
  }
  auto* encoder = new ComputeCommandEncoder;
  encoder->owner = this;
  encoder->concurrent = type == DispatchTypeConcurrent;
  encoders.push_back(NS::RetainPtr(encoder));
  ++metal_sim::counters().encoders;
  return encoder->autorelease();
}
void CommandBuffer::encodeWait(const Event* event, std::uint64_t value) {
  check_open("encodeWait");
  event->check();
  waits.emplace_back(NS::RetainPtr(static_cast<SharedEvent*>(const_cast<Event*>(event))), value);
}
void CommandBuffer::encodeSignalEvent(const Event* event, std::uint64_t value) {
  check_open("encodeSignalEvent");
  event->check();
  signals.emplace_back(NS::RetainPtr(static_cast<SharedEvent*>(const_cast<Event*>(event))), value);
}
void CommandBuffer::addCompletedHandler(const HandlerFunction& function) {
  check_open("addCompletedHandler");
  handlers.push_back(function);
}
void CommandBuffer::commit() {
  check();
  if (state.load() >= CommandBufferStatusCommitted) violation("commit after commit");
  for (const auto& encoder : encoders) {
    if (!encoder->ended) violation("commit with an encoder that is open");
  }
  state = CommandBufferStatusCommitted;
  metal_sim::submit(this);
}
void CommandBuffer::waitUntilCompleted() {
  check();
  if (state.load() < CommandBufferStatusCommitted) violation("waitUntilCompleted before commit");
  metal_sim::wait_until_completed(this);
}
CommandBufferStatus CommandBuffer::status() const {
  check();
  return state.load();
}
NS::Error* CommandBuffer::error() const {
  check();
  return state.load() == CommandBufferStatusError ? NS::Error::make(error_code, error_text)
                                                  : nullptr;
}
NS::String* CommandBuffer::label() const {
  check();
  return NS::String::string(text.c_str(), NS::UTF8StringEncoding);
}
void CommandBuffer::setLabel(const NS::String* label) {
  check();
  text = label->utf8String();
}
CFTimeInterval CommandBuffer::GPUStartTime() const {
  check();
  return start;
}
CFTimeInterval CommandBuffer::GPUEndTime() const {
  check();
  return end;
}
void CommandBuffer::dispose() {
  encoders.clear();
  waits.clear();
  signals.clear();
  handlers.clear();
  queue.reset();
}

}  // namespace MTL
