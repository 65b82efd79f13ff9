// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// One Apple GPU: its limits, the kernels compiled for it, and its memory, which is the host's too.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/metal/metal_api.h"
#include "metal_candle/backend/pool_allocator.h"

namespace metal_candle::backend::metal {

class MetalFunction final : public gpu::Function {
 public:
  MetalFunction(NS::SharedPtr<MTL::ComputePipelineState> pipeline, std::string name)
      : pipeline_(std::move(pipeline)), name_(std::move(name)) {}
  [[nodiscard]] const MTL::ComputePipelineState* pipeline() const { return pipeline_.get(); }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const gpu::Function* merged() const override { return merged_.get(); }
  void set_merged(std::unique_ptr<MetalFunction> merged) { merged_ = std::move(merged); }

 private:
  NS::SharedPtr<MTL::ComputePipelineState> pipeline_;
  std::string name_;
  std::unique_ptr<MetalFunction> merged_;
};

class MetalDevice final : public gpu::GpuDevice, public BlockSource {
 public:
  /// Throws DeviceError if the machine has no such GPU, or one that kernels do not run on: they
  /// need an Apple GPU of family 7 (M1) or later, and macOS 14.
  explicit MetalDevice(int index);
  ~MetalDevice() override;

  [[nodiscard]] const gpu::DeviceLimits& limits() const override { return limits_; }
  const gpu::Function& function(std::string_view name) override;
  const gpu::Function& compile(std::string_view name, const std::string& source) override;
  std::shared_ptr<const gpu::Matmul> make_matmul(
      const gpu::MatmulDescription& description) override;

  void* obtain(std::size_t size) override;
  void give_back(void* block) override;
  /// The buffer whose contents begin there.
  [[nodiscard]] MTL::Buffer* buffer_of(const void* block) const;

  /// Memory of the host, seen as a buffer: whole pages. Null where Metal does not take it.
  [[nodiscard]] NS::SharedPtr<MTL::Buffer> wrap(void* pages, std::size_t bytes);
  /// A resident buffer for arguments of kernels, which the device only reads. To be given back by
  /// its contents. Throws OutOfMemoryError.
  [[nodiscard]] NS::SharedPtr<MTL::Buffer> make_argument_buffer(std::size_t bytes);
  /// From now on, or no longer, every queue's work may use the buffer without naming it.
  void make_resident(const MTL::Allocation* buffer);
  void end_residency(const MTL::Allocation* buffer);
  /// Makes what was asked for so far true for work that is committed from now on.
  void commit_residency();
  /// Whether buffers are resident (macOS 15), or each encoder has to name those it uses.
  [[nodiscard]] bool has_residency() const { return residency_.get() != nullptr; }
  [[nodiscard]] const MTL::ResidencySet* residency() const { return residency_.get(); }

  [[nodiscard]] MTL::Device* handle() const { return device_.get(); }
  [[nodiscard]] std::string name() const;
  [[nodiscard]] std::size_t memory_limit() const { return memory_limit_; }
  /// Whether plans that come again can be replayed from indirect command buffers.
  [[nodiscard]] bool can_replay() const { return can_replay_; }
  [[nodiscard]] bool has_compiled_library() const { return library_.get() != nullptr; }

 private:
  // Part of the memory from which small buffers are taken; resident as a whole.
  struct Heap {
    NS::SharedPtr<MTL::Heap> memory;
    std::size_t buffers = 0;
  };
  struct Block {
    NS::SharedPtr<MTL::Buffer> buffer;
    Heap* heap = nullptr;
  };
  // Holding memory_mutex_.
  void add_residency(const MTL::Allocation* allocation);
  void remove_residency(const MTL::Allocation* allocation);
  Block make_in_heap(std::size_t size);

  NS::SharedPtr<MTL::Library> compile_text(std::string_view what, const std::string& text);
  std::unique_ptr<MetalFunction> find_function(MTL::Library& library, const std::string& name);
  std::unique_ptr<MetalFunction> make_function(MTL::Library& library, std::string_view name);

  NS::SharedPtr<MTL::Device> device_;
  NS::SharedPtr<MTL::ResidencySet> residency_;
  gpu::DeviceLimits limits_;
  std::size_t memory_limit_ = 0;
  bool can_replay_ = false;

  mutable std::mutex memory_mutex_;
  std::unordered_map<const void*, Block> blocks_;  // By their contents.
  std::list<Heap> heaps_;
  bool residency_changed_ = false;

  std::mutex functions_mutex_;
  NS::SharedPtr<MTL::Library> library_;  // Compiled when the library was installed; or null.
  std::map<std::string, NS::SharedPtr<MTL::Library>, std::less<>> families_;  // By header.
  // By name, or by source.
  std::map<std::string, std::unique_ptr<MetalFunction>, std::less<>> functions_;
};

/// How many Apple GPUs that kernels run on this machine has. Never throws.
[[nodiscard]] int count_devices();

}  // namespace metal_candle::backend::metal
