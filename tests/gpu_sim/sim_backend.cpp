// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See sim_backend.h.
#include "tests/gpu_sim/sim_backend.h"

#include <fmt/format.h>

#include <atomic>
#include <vector>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/registry.h"
#include "metal_candle/core/error.h"

namespace metal_candle::gpu_sim {
namespace {

using backend::Buffer;
using backend::BufferPtr;
using backend::BufferRegion;
using backend::StepLabel;

constexpr Device kDevice{DeviceType::kCuda, 0};

void* address(const BufferRegion& region) {
  return region.buffer == nullptr
             ? nullptr
             : static_cast<std::byte*>(region.buffer->contents()) + region.offset;
}

class SimCommandBuffer final : public backend::CommandBuffer {
 public:
  void encode(const backend::Kernel& kernel, std::span<const BufferRegion> inputs,
              std::span<const BufferRegion> outputs, BufferRegion scratch,
              const StepLabel& label) override {
    Command command{
        static_cast<const backend::gpu::GpuKernel*>(&kernel), &label, {}, {}, address(scratch)};
    for (const BufferRegion& region : inputs) command.inputs.push_back(address(region));
    for (const BufferRegion& region : outputs) command.outputs.push_back(address(region));
    commands_.push_back(std::move(command));
  }
  [[nodiscard]] std::size_t size() const override { return commands_.size(); }

  void run() const {
    SimEncoder encoder;
    for (const Command& command : commands_) {
      try {
        command.kernel->encode({command.inputs, command.outputs, command.scratch}, encoder);
      } catch (const std::exception& e) {
        throw DeviceError(
            fmt::format("{} {}: {}", command.label->name, command.label->detail, e.what()));
      }
    }
  }

 private:
  struct Command {
    const backend::gpu::GpuKernel* kernel;
    const StepLabel* label;
    std::vector<void*> inputs;
    std::vector<void*> outputs;
    void* scratch;
  };
  std::vector<Command> commands_;
};

class SimQueue final : public backend::CommandQueue {
 public:
  explicit SimQueue(int index) : index_(index) {}
  [[nodiscard]] int index() const override { return index_; }
  std::unique_ptr<backend::CommandBuffer> make_command_buffer() override {
    return std::make_unique<SimCommandBuffer>();
  }
  void commit(std::unique_ptr<backend::CommandBuffer> buffer,
              std::span<const CompletionPtr> dependencies,
              backend::CompletionHandler on_complete) override {
    std::exception_ptr error;
    for (const CompletionPtr& dependency : dependencies) {
      error = dependency->wait_for_error();
      if (error) break;
    }
    if (!error) {
      try {
        static_cast<const SimCommandBuffer&>(*buffer).run();
      } catch (...) {
        error = std::current_exception();
      }
    }
    on_complete(error);
  }
  [[nodiscard]] bool idle() const override { return true; }
  bool run_inline(std::unique_ptr<backend::CommandBuffer>& buffer) override {
    static_cast<const SimCommandBuffer&>(*buffer).run();
    return true;
  }
  void synchronize() override {}

 private:
  int index_;
};

class SimBackend final : public backend::gpu::GpuBackend {
 public:
  void use_tuning() { device_.stand_for(kDevice); }
  [[nodiscard]] Device device() const override { return kDevice; }
  [[nodiscard]] backend::BackendDescription describe() const override {
    return {"a GPU in software", "fibres", 1, {}};
  }
  BufferPtr allocate(std::size_t bytes) override { return host().allocate(bytes); }
  BufferPtr borrow(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) override {
    return host().borrow(bytes, std::move(owner));
  }
  void write(Buffer& buffer, std::size_t offset, std::span<const std::byte> bytes) override {
    host().write(buffer, offset, bytes);
  }
  void read(const Buffer& buffer, std::size_t offset, std::span<std::byte> bytes) override {
    host().read(buffer, offset, bytes);
  }
  [[nodiscard]] backend::MemoryStatistics memory() const override { return host().memory(); }
  void reset_peak_memory() override { host().reset_peak_memory(); }
  void set_memory_limit(std::size_t bytes) override { host().set_memory_limit(bytes); }
  void clear_memory_cache() override { host().clear_memory_cache(); }
  backend::CommandQueue& queue(int index) override {
    return queues_.at(static_cast<std::size_t>(index));
  }
  [[nodiscard]] int num_queues() const override { return static_cast<int>(queues_.size()); }
  [[nodiscard]] std::size_t steps_per_command_buffer() const override { return 64; }
  [[nodiscard]] backend::QueueStatistics queue_statistics() const override { return {}; }
  [[nodiscard]] backend::gpu::GpuDevice& gpu() const override { return device_; }

 private:
  static Backend& host() { return backend::backend_for(Device::cpu()); }
  mutable SimDevice device_;
  std::array<SimQueue, 2> queues_{SimQueue{0}, SimQueue{1}};
};

}  // namespace

namespace {
SimBackend& instance() {
  static auto* instance = new SimBackend;
  return *instance;
}
}  // namespace

backend::gpu::GpuBackend& sim_backend() { return instance(); }

Device use_sim_backend() {
  backend::set_backend(kDevice, &sim_backend());
  instance().use_tuning();
  return kDevice;
}

}  // namespace metal_candle::gpu_sim
