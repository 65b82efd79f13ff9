// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cuda_backend.h.
#include "metal_candle/backend/cuda/cuda_backend.h"

#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <map>
#include <string_view>

#include "metal_candle/backend/cuda/nvtx.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cuda {
namespace {

std::size_t free_memory(const CudaDevice& device) {
  device.enter();
  std::size_t free = 0;
  std::size_t total = 0;
  check(driver().cuMemGetInfo(&free, &total), "cuMemGetInfo");
  return free;
}

// Backends in use; never destroyed, since work may be in flight while the process exits.
struct Instances {
  std::mutex mutex;
  std::map<int, CudaBackend*> by_index;
};
Instances& instances() {
  static auto* all = new Instances;
  return *all;
}

void stop_at_exit() {
  for (const auto& [index, backend] : instances().by_index) backend->stop();
}

}  // namespace

CudaBackend::CudaBackend(int index)
    : index_(static_cast<std::uint8_t>(index)),
      gpu_(index),
      slabs_(gpu_),
      allocator_(to_string(Device{DeviceType::kCuda, static_cast<std::uint8_t>(index)}), slabs_,
                 /*host_visible=*/false, free_memory(gpu_), gpu_.total_memory()) {
  check(driver().cuStreamCreate(&upload_stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  check(driver().cuEventCreate(&uploaded_, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  add_nvtx_marker();
}

BackendDescription CudaBackend::describe() const {
  int version = 0;
  check(driver().cuDriverGetVersion(&version), "cuDriverGetVersion");
  int major = 0;
  int minor = 0;
  check(nvrtc().nvrtcVersion(&major, &minor), "nvrtcVersion");
  const std::size_t cublas = cublas_lt().cublasLtGetVersion();
  // Which algorithm is its third suggestion is the library's business.
  const std::string library =
      fmt::format("cuBLASLt {}.{}.{}", cublas / 10000, cublas % 10000 / 100, cublas % 100);
  return {gpu_.name(),
          fmt::format("sm_{}", gpu_.limits().architecture),
          static_cast<int>(gpu_.limits().multiprocessors),
          {fmt::format("CUDA driver {}.{}", version / 1000, version % 1000 / 10), library,
           fmt::format("NVRTC {}.{}", major, minor)},
          library};
}

BufferPtr CudaBackend::borrow(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  BufferPtr buffer = allocate(bytes.size());
  write(*buffer, 0, bytes);
  owner.reset();
  return buffer;
}

void CudaBackend::write(Buffer& buffer, std::size_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  gpu_.enter();
  const auto target = reinterpret_cast<CUdeviceptr>(
      static_cast<std::byte*>(static_cast<PoolAllocator::PooledBuffer&>(buffer).block()) + offset);
  // Pageable memory has been read, into the driver's own, when the call returns; the device has it
  // when the event says so.
  const std::lock_guard lock(upload_mutex_);
  check(driver().cuMemcpyHtoDAsync(target, bytes.data(), bytes.size(), upload_stream_),
        "cuMemcpyHtoDAsync");
  check(driver().cuEventRecord(uploaded_, upload_stream_), "cuEventRecord");
  uploads_.fetch_add(1, std::memory_order_release);
}

void CudaBackend::read(const Buffer& buffer, std::size_t offset, std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  gpu_.enter();
  // What is read may have been uploaded a moment ago.
  const std::uint64_t uploads = uploads_.load(std::memory_order_acquire);
  if (finished_uploads_.load(std::memory_order_acquire) < uploads) {
    check(driver().cuStreamSynchronize(upload_stream_), "cuStreamSynchronize");
    finished_uploads_.store(uploads, std::memory_order_release);
  }
  const auto* block = static_cast<const std::byte*>(
      static_cast<const PoolAllocator::PooledBuffer&>(buffer).block());
  check(driver().cuMemcpyDtoH(bytes.data(), reinterpret_cast<CUdeviceptr>(block + offset),
                              bytes.size()),
        "cuMemcpyDtoH");
}

CudaQueue& CudaBackend::cuda_queue(int index) {
  std::atomic<CudaQueue*>& ready = ready_queues_.at(static_cast<std::size_t>(index));
  if (CudaQueue* queue = ready.load(std::memory_order_acquire)) return *queue;
  const std::lock_guard lock(queues_mutex_);
  std::unique_ptr<CudaQueue>& queue = queues_[static_cast<std::size_t>(index)];
  if (!queue) queue = std::make_unique<CudaQueue>(index, gpu_, *this);
  ready.store(queue.get(), std::memory_order_release);
  return *queue;
}

QueueStatistics CudaBackend::queue_statistics() const {
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
    total.graphs_made += one.graphs_made;
    total.graph_launches += one.graph_launches;
    total.graphs_repointed += one.graphs_repointed;
    total.nodes_repointed += one.nodes_repointed;
    total.direct_launches += one.direct_launches;
  }
  return total;
}

CudaQueue* CudaBackend::find_queue(const CompletionSource* source) const {
  for (const auto& ready : ready_queues_) {
    CudaQueue* queue = ready.load(std::memory_order_acquire);
    if (queue != nullptr && queue == source) return queue;
  }
  return nullptr;
}

void CudaBackend::order_after_uploads(CudaQueue& queue) {
  const std::uint64_t now = uploads_.load(std::memory_order_acquire);
  std::atomic<std::uint64_t>& seen = seen_uploads_[static_cast<std::size_t>(queue.index())];
  if (seen.load(std::memory_order_acquire) >= now) return;
  queue.wait_for(uploaded_);
  seen.store(now, std::memory_order_release);
}

void CudaBackend::warm_up() {
  gpu_.in_background([this] {
    try {
      slabs_.prepare();
    } catch (const std::exception&) {
      // Whoever needs memory meets the same.
    }
  });
  gpu_.warm_up();
}

void CudaBackend::stop() {
  gpu_.stop_compiling();
  const std::lock_guard lock(queues_mutex_);
  for (const auto& queue : queues_) {
    if (queue) queue->stop();
  }
  gpu_.abandon_memory();
}

int count_devices();
int count_devices() {
  int count = 0;
  try {
    check(driver().cuDeviceGetCount(&count), "cuDeviceGetCount");
  } catch (const DeviceError&) {
    return 0;  // No driver, no devices.
  }
  return count;
}

namespace {

// Who measures what first uses take may want to see it all.
bool wants_warm_up() {
  const char* wanted = std::getenv("METAL_CANDLE_WARM_UP");
  if (wanted == nullptr || *wanted == 0 || std::string_view(wanted) == "on") return true;
  if (std::string_view(wanted) == "off") return false;
  throw DeviceError(fmt::format("METAL_CANDLE_WARM_UP is \"{}\", neither on nor off", wanted));
}

}  // namespace

Backend& cuda_backend(int index);
Backend& cuda_backend(int index) {
  const std::lock_guard lock(instances().mutex);
  CudaBackend*& backend = instances().by_index[index];
  if (backend == nullptr) {
    const bool first = instances().by_index.size() == 1;
    backend = new CudaBackend(index);
    if (first) std::atexit(stop_at_exit);
    if (wants_warm_up()) backend->warm_up();
  }
  return *backend;
}

}  // namespace metal_candle::backend::cuda
