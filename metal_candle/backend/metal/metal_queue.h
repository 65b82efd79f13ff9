// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Command queues of the Metal backend. What is committed to one runs in order: each command buffer
// has one encoder, which waits for the fence that the one before updates. A shared event counts the
// buffers that are done, for other queues to wait for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/gpu/step_labels.h"
#include "metal_candle/backend/metal/command_list.h"
#include "metal_candle/backend/metal/indirect_cache.h"
#include "metal_candle/backend/metal/instruments.h"
#include "metal_candle/backend/metal/metal_buffer.h"

namespace metal_candle::backend::metal {

class MetalCommandBuffer final : public CommandBuffer {
 public:
  explicit MetalCommandBuffer(MetalDevice& device) : device_(device), list_(device) {}
  ~MetalCommandBuffer() override;
  void encode(const Kernel& kernel, std::span<const BufferRegion> inputs,
              std::span<const BufferRegion> outputs, BufferRegion scratch,
              const StepLabel& label) override;
  void begin_wave() override;
  [[nodiscard]] std::size_t size() const override { return steps_.size(); }
  void clear();

  /// To be called when all has been encoded.
  void finish() { waves_.end_wave(list_); }
  [[nodiscard]] const CommandList& list() const { return list_; }
  /// Commands [first, last): one step, several as one, or a part of one.
  struct Piece {
    std::size_t first, last;
    StepLabel label;
  };
  /// The list, cut where commands serve other steps.
  [[nodiscard]] std::vector<Piece> pieces() const;
  /// "matmul [2, 3] ... to softmax [2]": for errors, which the device does not place closer.
  [[nodiscard]] std::string describe() const { return steps_.describe(); }
  /// The arguments of the list, where the device reads them.
  const MTL::Buffer* upload_arguments();
  /// Buffers that the steps name, each once.
  [[nodiscard]] const std::vector<const MTL::Resource*>& resources();

 private:
  void add(const BufferRegion& region);

  MetalDevice& device_;
  gpu::WaveEncoder waves_;
  bool in_wave_ = false;
  CommandList list_;
  gpu::StepLabels steps_;
  std::vector<const MTL::Resource*> resources_;
  NS::SharedPtr<MTL::Buffer> arguments_;
  std::vector<void*> addresses_;
};

class MetalBackend;

class MetalQueue final : public CommandQueue {
 public:
  /// Commits beyond this many unfinished buffers wait.
  static constexpr std::size_t kMaxPending = 16;

  MetalQueue(int index, MetalDevice& device, const MetalBackend& backend);
  ~MetalQueue() override;

  [[nodiscard]] int index() const override { return index_; }
  std::unique_ptr<CommandBuffer> make_command_buffer() override;
  void commit(std::unique_ptr<CommandBuffer> buffer, std::span<const CompletionPtr> dependencies,
              CompletionHandler on_complete) override;
  [[nodiscard]] bool idle() const override { return pending_.load(std::memory_order_acquire) == 0; }
  bool run_inline(std::unique_ptr<CommandBuffer>& buffer) override;
  void synchronize() override;

  /// Waits for what runs, and takes nothing any more.
  void stop();
  [[nodiscard]] QueueStatistics statistics() const;
  [[nodiscard]] ReplayStatistics replay_statistics() const;

 private:
  struct Work {
    std::unique_ptr<CommandBuffer> buffer;
    CompletionHandler on_complete;
    std::vector<CompletionPtr> dependencies;        // That were not ready when this was committed.
    std::vector<MetalCommandBuffer::Piece> pieces;  // When steps are observed.
    std::vector<NS::SharedPtr<MTL::CommandBuffer>> commands;  // One, or one a piece.
    IndirectPlan* plan = nullptr;
    std::uint64_t number = 0;  // That the event has once it is done.
    SignpostInterval interval;

    [[nodiscard]] MetalCommandBuffer& encoded() const {
      return static_cast<MetalCommandBuffer&>(*buffer);
    }
  };
  void wait_for_room();
  void submit(Work& work, std::span<const CompletionPtr> waits);
  void encode_whole(Work& work, MTL::ComputeCommandEncoder& encoder);
  NS::SharedPtr<MTL::CommandBuffer> make_commands(const std::string& label);
  MTL::ComputeCommandEncoder* begin_encoder(Work& work, MTL::CommandBuffer& commands);
  std::exception_ptr finish(Work& work);
  void report(const Work& work) const;
  void give_back(std::unique_ptr<CommandBuffer> buffer);

  const int index_;
  MetalDevice& device_;
  const MetalBackend& backend_;
  NS::SharedPtr<MTL::CommandQueue> queue_;
  NS::SharedPtr<MTL::Fence> fence_;
  NS::SharedPtr<MTL::SharedEvent> event_;
  NS::SharedPtr<MTL::CommandBufferDescriptor> descriptor_;

  // Held while a buffer is encoded and committed, so that numbers have the queue's order.
  std::mutex submit_mutex_;
  std::atomic<std::uint64_t> submitted_{0};

  mutable std::mutex mutex_;  // Guards what follows; taken after submit_mutex_.
  IndirectCache plans_;
  std::condition_variable finished_;
  std::vector<std::unique_ptr<CommandBuffer>> free_;
  QueueStatistics statistics_;
  bool stopping_ = false;
  std::atomic<std::size_t> pending_{0};  // Changed under mutex_.
};

}  // namespace metal_candle::backend::metal
