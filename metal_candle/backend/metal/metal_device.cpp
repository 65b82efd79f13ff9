// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See metal_device.h.
#include "metal_candle/backend/metal/metal_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "metal_candle/backend/metal/kernel_sources.h"
#include "metal_candle/backend/metal/metal_matmul.h"
#include "metal_candle/core/error.h"

#ifndef METAL_CANDLE_METALLIB
#define METAL_CANDLE_METALLIB ""
#endif

namespace metal_candle::backend::metal {
namespace {

constexpr NS::UInteger kLanes = 32;  // Of a simdgroup, as the dialect has it.
// Buffers are seen by the device through addresses in arguments, so Metal could not track them; the
// queue orders what it runs.
constexpr MTL::ResourceOptions kOptions =
    MTL::ResourceStorageModeShared | MTL::ResourceHazardTrackingModeUntracked;
// A buffer of its own takes whole pages, a call of the system and an entry of the residency set:
// those up to a size share heaps. Larger ones would leave gaps.
constexpr std::size_t kLargestInHeap = std::size_t{512} << 10;
constexpr std::size_t kHeapBytes = std::size_t{8} << 20;
constexpr NS::UInteger kBlockAlignment = 256;  // As kernels want their scratch.
// Metal does not tell how many cores a GPU has. That of an M-series Pro: smaller ones get more
// groups than they need, larger ones fewer.
constexpr std::uint32_t kTypicalCores = 16;

bool at_least_macos(NS::Integer major) {
  return NS::ProcessInfo::processInfo()->isOperatingSystemAtLeastVersion({major, 0, 0});
}

// What keeps kernels from running there; empty if nothing does.
std::string objection(MTL::Device& device) {
  // Pointers in arguments, simdgroup matrices and atomic floats.
  if (!device.supportsFamily(MTL::GPUFamilyApple7)) {
    return "it is not an Apple GPU of family 7 (M1) or later";
  }
  if (!at_least_macos(14)) return "kernels need macOS 14 or later, for bfloat";
  return {};
}

// Those that kernels run on, in Metal's order.
std::vector<NS::SharedPtr<MTL::Device>> usable_devices(std::string* why_not) {
  std::vector<NS::SharedPtr<MTL::Device>> usable;
  const NS::SharedPtr<NS::Array> all = NS::TransferPtr(MTL::CopyAllDevices());
  for (NS::UInteger i = 0; all && i < all->count(); ++i) {
    auto* device = all->object<MTL::Device>(i);
    const std::string reason = objection(*device);
    if (reason.empty()) {
      usable.push_back(NS::RetainPtr(device));
    } else if (why_not != nullptr) {
      *why_not += fmt::format("; {}: {}", device->name()->utf8String(), reason);
    }
  }
  return usable;
}

std::string library_path() {
  if (const char* path = std::getenv("METAL_CANDLE_METALLIB")) return path;
  return METAL_CANDLE_METALLIB;
}

}  // namespace

int count_devices() {
  const AutoreleaseScope scope;
  return static_cast<int>(usable_devices(nullptr).size());
}

MetalDevice::MetalDevice(int index) {
  const AutoreleaseScope scope;
  std::string why_not;
  const auto usable = usable_devices(&why_not);
  if (static_cast<std::size_t>(index) >= usable.size()) {
    throw DeviceError(fmt::format("metal:{}: this machine has {} GPU{} that kernels run on{}",
                                  index, usable.size(), usable.size() == 1 ? "" : "s", why_not));
  }
  device_ = usable[static_cast<std::size_t>(index)];
  limits_.multiprocessors = kTypicalCores;
  limits_.max_threads = 1024;
  limits_.max_group_bytes = static_cast<std::uint32_t>(device_->maxThreadgroupMemoryLength());
  limits_.group_bytes = limits_.max_group_bytes;
  // A tile of simdgroup matrices has eight rows, and is the slower, the fewer of them count.
  limits_.few_rows = 8;
  memory_limit_ = device_->recommendedMaxWorkingSetSize();
  can_replay_ = device_->supportsFamily(MTL::GPUFamilyMetal3);
  if (at_least_macos(15)) {
    const auto descriptor = NS::TransferPtr(MTL::ResidencySetDescriptor::alloc()->init());
    descriptor->setLabel(ns_string("metal-candle"));
    NS::Error* error = nullptr;
    residency_ = NS::TransferPtr(device_->newResidencySet(descriptor.get(), &error));
    if (!residency_) {
      throw DeviceError(fmt::format("metal: no residency set: {}", error_text(error, "no reason")));
    }
  }
  if (const std::string path = library_path(); !path.empty() && std::filesystem::exists(path)) {
    NS::Error* error = nullptr;
    library_ =
        NS::TransferPtr(device_->newLibrary(NS::URL::fileURLWithPath(ns_string(path)), &error));
    if (!library_) {
      throw DeviceError(fmt::format("metal: {} cannot be loaded: {}", path,
                                    error_text(error, "no reason given")));
    }
  }
}

MetalDevice::~MetalDevice() = default;

std::string MetalDevice::name() const {
  const AutoreleaseScope scope;
  return device_->name()->utf8String();
}

NS::SharedPtr<MTL::Library> MetalDevice::compile_text(std::string_view what,
                                                      const std::string& text) {
  const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  options->setLanguageVersion(MTL::LanguageVersion3_1);
  options->setFastMathEnabled(false);
  NS::Error* error = nullptr;
  auto library = NS::TransferPtr(device_->newLibrary(ns_string(text), options.get(), &error));
  if (!library) {
    throw DeviceError(
        fmt::format("metal: {} does not compile: {}", what, error_text(error, "no reason given")));
  }
  return library;
}

// Null if there is none.
std::unique_ptr<MetalFunction> MetalDevice::find_function(MTL::Library& library,
                                                          const std::string& name) {
  const auto function = NS::TransferPtr(library.newFunction(ns_string(name)));
  if (!function) return nullptr;
  const auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
  descriptor->setComputeFunction(function.get());
  descriptor->setLabel(ns_string(name));
  descriptor->setSupportIndirectCommandBuffers(can_replay_);
  NS::Error* error = nullptr;
  auto pipeline = NS::TransferPtr(
      device_->newComputePipelineState(descriptor.get(), MTL::PipelineOptionNone, nullptr, &error));
  if (!pipeline) {
    throw DeviceError(
        fmt::format("metal: {} cannot run: {}", name, error_text(error, "no reason given")));
  }
  if (pipeline->threadExecutionWidth() != kLanes) {
    throw DeviceError(fmt::format("metal: {} runs {} threads in step; kernels need {}", name,
                                  pipeline->threadExecutionWidth(), kLanes));
  }
  return std::make_unique<MetalFunction>(std::move(pipeline), name);
}

std::unique_ptr<MetalFunction> MetalDevice::make_function(MTL::Library& library,
                                                          std::string_view name) {
  std::unique_ptr<MetalFunction> function = find_function(library, std::string(name));
  if (!function) throw DeviceError(fmt::format("metal: no kernel {}", name));
  function->set_merged(find_function(library, fmt::format("{}_merged", name)));
  return function;
}

const gpu::Function& MetalDevice::function(std::string_view name) {
  const std::lock_guard lock(functions_mutex_);
  const auto it = functions_.find(name);
  if (it != functions_.end()) return *it->second;
  const AutoreleaseScope scope;
  MTL::Library* library = library_.get();
  if (library == nullptr) {
    const std::string_view header = header_of_kernel(name);
    auto family = families_.find(header);
    if (family == families_.end()) {
      family =
          families_.emplace(std::string(header), compile_text(header, expand_header(header))).first;
    }
    library = family->second.get();
  }
  return *functions_.emplace(std::string(name), make_function(*library, name)).first->second;
}

const gpu::Function& MetalDevice::compile(std::string_view name, const std::string& source) {
  {
    const std::lock_guard lock(functions_mutex_);
    const auto it = functions_.find(source);
    if (it != functions_.end()) return *it->second;
  }
  const AutoreleaseScope scope;
  static const std::string dialect =
      expand_header("metal_candle/backend/gpu/kernels/element_functions.h");
  const auto library = compile_text(name, dialect + source);
  std::unique_ptr<MetalFunction> function = make_function(*library.get(), name);
  const std::lock_guard lock(functions_mutex_);
  return *functions_.emplace(source, std::move(function)).first->second;
}

std::shared_ptr<const gpu::Matmul> MetalDevice::make_matmul(
    const gpu::MatmulDescription& description) {
  return MetalMatmul::make(*this, description);
}

void* MetalDevice::obtain(std::size_t size) {
  const AutoreleaseScope scope;
  if (size > device_->maxBufferLength()) return nullptr;
  Block block;
  if (size <= kLargestInHeap &&
      device_->heapBufferSizeAndAlign(size, kOptions).align % kBlockAlignment == 0) {
    const std::lock_guard lock(memory_mutex_);
    block = make_in_heap(size);
  }
  if (!block.buffer) block.buffer = NS::TransferPtr(device_->newBuffer(size, kOptions));
  if (!block.buffer) return nullptr;
  void* contents = block.buffer->contents();
  const std::lock_guard lock(memory_mutex_);
  if (block.heap == nullptr) add_residency(block.buffer.get());
  blocks_.emplace(contents, std::move(block));
  return contents;
}

// With no buffer where there is no heap for it.
MetalDevice::Block MetalDevice::make_in_heap(std::size_t size) {
  for (Heap& heap : heaps_) {
    Block block{NS::TransferPtr(heap.memory->newBuffer(size, kOptions)), &heap};
    if (!block.buffer) continue;
    ++heap.buffers;
    return block;
  }
  const auto descriptor = NS::TransferPtr(MTL::HeapDescriptor::alloc()->init());
  descriptor->setSize(kHeapBytes);
  descriptor->setResourceOptions(kOptions);
  Heap heap{NS::TransferPtr(device_->newHeap(descriptor.get()))};
  if (!heap.memory) return {};
  Block block{NS::TransferPtr(heap.memory->newBuffer(size, kOptions))};
  if (!block.buffer) return {};
  add_residency(heap.memory.get());
  heap.buffers = 1;
  heaps_.push_front(std::move(heap));
  block.heap = &heaps_.front();
  return block;
}

void MetalDevice::give_back(void* contents) {
  const AutoreleaseScope scope;
  const std::lock_guard lock(memory_mutex_);
  const auto it = blocks_.find(contents);
  Block block = std::move(it->second);
  blocks_.erase(it);
  if (block.heap == nullptr) {
    remove_residency(block.buffer.get());
    return;
  }
  block.buffer.reset();
  if (--block.heap->buffers > 0) return;
  remove_residency(block.heap->memory.get());
  heaps_.remove_if([&](const Heap& heap) { return &heap == block.heap; });
}

MTL::Buffer* MetalDevice::buffer_of(const void* block) const {
  const std::lock_guard lock(memory_mutex_);
  return blocks_.at(block).buffer.get();
}

NS::SharedPtr<MTL::Buffer> MetalDevice::wrap(void* pages, std::size_t bytes) {
  const AutoreleaseScope scope;
  if (bytes > device_->maxBufferLength()) return {};
  auto buffer = NS::TransferPtr(device_->newBuffer(pages, bytes, kOptions, nullptr));
  if (buffer) make_resident(buffer.get());
  return buffer;
}

NS::SharedPtr<MTL::Buffer> MetalDevice::make_argument_buffer(std::size_t bytes) {
  void* block = obtain(bytes);
  if (block == nullptr) {
    throw OutOfMemoryError(fmt::format("metal: the device has no {} bytes for arguments", bytes));
  }
  return NS::RetainPtr(buffer_of(block));
}

void MetalDevice::make_resident(const MTL::Allocation* allocation) {
  const std::lock_guard lock(memory_mutex_);
  add_residency(allocation);
}

void MetalDevice::end_residency(const MTL::Allocation* allocation) {
  const std::lock_guard lock(memory_mutex_);
  remove_residency(allocation);
}

void MetalDevice::add_residency(const MTL::Allocation* allocation) {
  if (!has_residency()) return;
  residency_->addAllocation(allocation);
  residency_changed_ = true;
}

void MetalDevice::remove_residency(const MTL::Allocation* allocation) {
  if (!has_residency()) return;
  residency_->removeAllocation(allocation);
  residency_changed_ = true;
}

void MetalDevice::commit_residency() {
  if (!has_residency()) return;
  const std::lock_guard lock(memory_mutex_);
  if (!residency_changed_) return;
  residency_->commit();
  residency_changed_ = false;
}

}  // namespace metal_candle::backend::metal
