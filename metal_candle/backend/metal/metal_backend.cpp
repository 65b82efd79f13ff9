// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See metal_backend.h.
#include "metal_candle/backend/metal/metal_backend.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "metal_candle/backend/metal/instruments.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::metal {
namespace {

// Backends in use; never destroyed, since work may be in flight while the process exits.
struct Instances {
  std::mutex mutex;
  std::map<int, MetalBackend*> by_index;
};
Instances& instances() {
  static auto* all = new Instances;
  return *all;
}

void stop_at_exit() {
  for (const auto& [index, backend] : instances().by_index) backend->stop();
}

}  // namespace

MetalBackend::MetalBackend(int index)
    : index_(static_cast<std::uint8_t>(index)),
      gpu_(index),
      allocator_(to_string(Device{DeviceType::kMetal, static_cast<std::uint8_t>(index)}), gpu_,
                 /*host_visible=*/true, gpu_.memory_limit(), gpu_.memory_limit()) {
  start_capture(*gpu_.handle());
}

BackendDescription MetalBackend::describe() const {
  const AutoreleaseScope scope;
  const NS::OperatingSystemVersion system =
      NS::ProcessInfo::processInfo()->operatingSystemVersion();
  return {gpu_.name(),
          "Metal Shading Language 3.1",
          static_cast<int>(gpu_.limits().multiprocessors),
          {fmt::format("macOS {}.{}", system.majorVersion, system.minorVersion),
           gpu_.has_compiled_library() ? "compiled kernels" : "kernels compiled at first use",
           gpu_.can_replay() ? "indirect command buffers" : "no indirect command buffers",
           gpu_.has_residency() ? "residency sets" : "no residency sets"}};
}

BufferPtr MetalBackend::allocate(std::size_t bytes) {
  const AutoreleaseScope scope;
  IntrusivePtr<PoolAllocator::PooledBuffer> pooled =
      allocator_.allocate(gpu::round_up(std::max<std::size_t>(bytes, 1), kAlignment));
  MTL::Buffer* buffer = gpu_.buffer_of(pooled->block());
  return BufferPtr(new MetalBuffer(std::move(pooled), buffer));
}

BufferPtr MetalBackend::borrow(std::span<const std::byte> bytes,
                               std::shared_ptr<const void> owner) {
  const AutoreleaseScope scope;
  // Kernels load 16 bytes at a time where they can, so memory that begins elsewhere is worth a
  // copy.
  constexpr std::uintptr_t kPacket = 16;
  if (!bytes.empty() && reinterpret_cast<std::uintptr_t>(bytes.data()) % kPacket == 0) {
    // The device sees whole pages. What else they hold is mapped as long as `bytes` are.
    static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
    const std::uintptr_t first = begin / page * page;
    const std::uintptr_t last = (begin + bytes.size() + page - 1) / page * page;
    NS::SharedPtr<MTL::Buffer> pages = gpu_.wrap(reinterpret_cast<void*>(first), last - first);
    if (pages) {
      return BufferPtr(new MetalBuffer(gpu_, std::move(pages), begin - first,
                                       const_cast<std::byte*>(bytes.data()), bytes.size(),
                                       std::move(owner)));
    }
  }
  BufferPtr buffer = allocate(bytes.size());
  write(*buffer, 0, bytes);
  return buffer;
}

void MetalBackend::write(Buffer& buffer, std::size_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  std::memcpy(static_cast<std::byte*>(buffer.contents()) + offset, bytes.data(), bytes.size());
}

void MetalBackend::read(const Buffer& buffer, std::size_t offset, std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  std::memcpy(bytes.data(), static_cast<const std::byte*>(buffer.contents()) + offset,
              bytes.size());
}

std::unique_ptr<Kernel> MetalBackend::make_kernel(const KernelRequest& request) const {
  const AutoreleaseScope scope;
  return GpuBackend::make_kernel(request);
}

MetalQueue& MetalBackend::metal_queue(int index) {
  const std::lock_guard lock(queues_mutex_);
  std::unique_ptr<MetalQueue>& queue = queues_.at(static_cast<std::size_t>(index));
  if (!queue) queue = std::make_unique<MetalQueue>(index, gpu_, *this);
  return *queue;
}

MetalQueue* MetalBackend::find_queue(const CompletionSource* source) const {
  const std::lock_guard lock(queues_mutex_);
  for (const auto& queue : queues_) {
    if (queue && queue.get() == source) return queue.get();
  }
  return nullptr;
}

QueueStatistics MetalBackend::queue_statistics() const {
  const std::lock_guard lock(queues_mutex_);
  QueueStatistics total;
  for (const auto& queue : queues_) {
    if (!queue) continue;
    const QueueStatistics one = queue->statistics();
    total.command_buffers += one.command_buffers;
    total.inline_buffers += one.inline_buffers;
    total.kernels += one.kernels;
    total.buffers_made += one.buffers_made;
    total.buffers_reused += one.buffers_reused;
    total.full_waits += one.full_waits;
  }
  return total;
}

ReplayStatistics MetalBackend::replay_statistics() const {
  const std::lock_guard lock(queues_mutex_);
  ReplayStatistics total;
  for (const auto& queue : queues_) {
    if (!queue) continue;
    const ReplayStatistics one = queue->replay_statistics();
    total.made += one.made;
    total.replayed += one.replayed;
    total.direct += one.direct;
  }
  return total;
}

void MetalBackend::stop() {
  {
    const std::lock_guard lock(queues_mutex_);
    for (const auto& queue : queues_) {
      if (queue) queue->stop();
    }
  }
  stop_capture();
}

Backend& metal_backend(int index);
Backend& metal_backend(int index) {
  const std::lock_guard lock(instances().mutex);
  MetalBackend*& backend = instances().by_index[index];
  if (backend == nullptr) {
    const bool first = instances().by_index.size() == 1;
    backend = new MetalBackend(index);
    if (first) std::atexit(stop_at_exit);
  }
  return *backend;
}

}  // namespace metal_candle::backend::metal
