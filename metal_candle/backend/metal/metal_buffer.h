// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Buffers of the Metal backend: memory that the host and the device both see, at addresses of their
// own.
#pragma once

#include <memory>
#include <utility>

#include "metal_candle/backend/metal/metal_device.h"
#include "metal_candle/backend/pool_allocator.h"

namespace metal_candle::backend::metal {

class MetalBuffer final : public Buffer {
 public:
  /// Memory of the pool.
  MetalBuffer(IntrusivePtr<PoolAllocator::PooledBuffer> pooled, MTL::Buffer* buffer)
      : Buffer(pooled->contents(), pooled->size()),
        pooled_(std::move(pooled)),
        buffer_(NS::RetainPtr(buffer)),
        device_address_(buffer->gpuAddress()) {}
  /// Host memory that `pages` covers, from `offset` on; it lives as long as `owner`.
  MetalBuffer(MetalDevice& device, NS::SharedPtr<MTL::Buffer> pages, std::size_t offset, void* host,
              std::size_t size, std::shared_ptr<const void> owner)
      : Buffer(host, size),
        device_(&device),
        owner_(std::move(owner)),
        buffer_(std::move(pages)),
        device_address_(buffer_->gpuAddress() + offset) {}
  ~MetalBuffer() override {
    if (device_ != nullptr) device_->end_residency(buffer_.get());
  }

  [[nodiscard]] std::uint64_t device_address() const { return device_address_; }
  [[nodiscard]] const MTL::Buffer* handle() const { return buffer_.get(); }

 private:
  MetalDevice* device_ = nullptr;  // Of borrowed memory.
  IntrusivePtr<PoolAllocator::PooledBuffer> pooled_;
  std::shared_ptr<const void> owner_;
  NS::SharedPtr<MTL::Buffer> buffer_;
  std::uint64_t device_address_;
};

}  // namespace metal_candle::backend::metal
