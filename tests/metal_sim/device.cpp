// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The device and what it makes.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "tests/metal_sim/internal.h"

namespace MTL {

using metal_sim::machine;
using metal_sim::violation;

Device* CreateSystemDefaultDevice() {
  static auto* device = new Device;
  metal_sim::install_fault_handler();
  return device->retain();
}
NS::Array* CopyAllDevices() {
  auto* all = new NS::Array;
  all->objects.push_back(NS::TransferPtr<NS::Object>(CreateSystemDefaultDevice()));
  return all;
}

NS::String* Device::name() const {
  check();
  return NS::String::string("a Metal in software", NS::UTF8StringEncoding);
}
bool Device::supportsFamily(GPUFamily family) {
  check();
  return family == GPUFamilyApple7 ? machine().apple7 : machine().metal3;
}
NS::UInteger Device::maxBufferLength() const {
  check();
  return machine().max_buffer_length;
}
NS::UInteger Device::maxThreadgroupMemoryLength() const {
  check();
  return 32 << 10;
}
std::uint64_t Device::recommendedMaxWorkingSetSize() const {
  check();
  return machine().working_set;
}

Buffer* Device::newBuffer(NS::UInteger length, ResourceOptions) {
  check();
  if (length == 0 || length > machine().max_buffer_length) return nullptr;
  auto* buffer = new Buffer;
  buffer->mapping = std::make_shared<metal_sim::Mapping>(length);
  return buffer;
}
Buffer* Device::newBuffer(const void* pointer, NS::UInteger length, ResourceOptions,
                          void (*)(void*, NS::UInteger)) {
  check();
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  if (reinterpret_cast<std::uint64_t>(pointer) % page != 0 || length % page != 0 || length == 0) {
    violation(fmt::format("{} bytes at {} are not whole pages", length, pointer));
  }
  if (!machine().takes_host_pages) return nullptr;
  ++metal_sim::counters().no_copy;
  auto* buffer = new Buffer;
  buffer->mapping = std::make_shared<metal_sim::Mapping>(const_cast<void*>(pointer), length);
  return buffer;
}
CommandQueue* Device::newCommandQueue(NS::UInteger) {
  check();
  return new CommandQueue;
}
Fence* Device::newFence() {
  check();
  return new Fence;
}
SharedEvent* Device::newSharedEvent() {
  check();
  return new SharedEvent;
}
ResidencySet* Device::newResidencySet(const ResidencySetDescriptor* descriptor, NS::Error**) {
  check();
  descriptor->check();
  if (machine().macos < 15) violation("newResidencySet before macOS 15");
  return new ResidencySet;
}
ComputePipelineState* Device::newComputePipelineState(const ComputePipelineDescriptor* descriptor,
                                                      PipelineOption,
                                                      const AutoreleasedComputePipelineReflection*,
                                                      NS::Error**) {
  check();
  descriptor->check();
  if (descriptor->kernel == nullptr) violation("a pipeline without a function");
  auto* pipeline = new ComputePipelineState;
  pipeline->kernel = descriptor->kernel;
  pipeline->indirect = descriptor->indirect;
  return pipeline;
}
IndirectCommandBuffer* Device::newIndirectCommandBuffer(
    const IndirectCommandBufferDescriptor* descriptor, NS::UInteger count, ResourceOptions) {
  check();
  descriptor->check();
  if (!machine().metal3) violation("an indirect command buffer on a family that has none");
  if (descriptor->types != IndirectCommandTypeConcurrentDispatch) {
    violation("indirect commands that dispatch nothing");
  }
  auto* buffer = new IndirectCommandBuffer;
  buffer->most_buffers = descriptor->buffers;
  buffer->most_group_memories = descriptor->group_memories;
  for (NS::UInteger i = 0; i < count; ++i) {
    auto* command = new IndirectComputeCommand;
    command->owner = buffer;
    buffer->commands.push_back(NS::TransferPtr(command));
  }
  return buffer;
}

void* Buffer::contents() {
  check();
  return mapping->host;
}
GPUAddress Buffer::gpuAddress() const {
  check();
  return reinterpret_cast<GPUAddress>(mapping->device);
}
NS::UInteger Buffer::length() const {
  check();
  return mapping->length;
}

void ResidencySetDescriptor::setLabel(const NS::String* label) {
  check();
  label->check();
}

// ---- Captures: a file that says so.

void CaptureDescriptor::setCaptureObject(NS::Object* value) {
  check();
  object = value;
}
void CaptureDescriptor::setDestination(CaptureDestination) { check(); }
void CaptureDescriptor::setOutputURL(const NS::URL* url) {
  check();
  path = url->fileSystemRepresentation();
}
CaptureManager* CaptureManager::sharedCaptureManager() {
  static auto* instance = new CaptureManager;
  return instance;
}
bool CaptureManager::supportsDestination(CaptureDestination) {
  const char* enabled = std::getenv("MTL_CAPTURE_ENABLED");
  return enabled != nullptr && std::string(enabled) == "1";
}
bool CaptureManager::startCapture(const CaptureDescriptor* descriptor, NS::Error** error) {
  descriptor->check();
  if (descriptor->object == nullptr || !path_.empty()) {
    *error = NS::Error::make(1, "there is nothing to capture, or a capture is on");
    return false;
  }
  path_ = descriptor->path;
  return true;
}
void CaptureManager::stopCapture() {
  std::ofstream(path_) << "capture\n";
  path_.clear();
}
bool CaptureManager::isCapturing() const { return !path_.empty(); }

}  // namespace MTL
