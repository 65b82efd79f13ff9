// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See sim_backend.h.
#include "tests/gpu_sim/sim_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <string>
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
  void begin_wave() override { waves_.push_back(commands_.size()); }
  [[nodiscard]] std::size_t size() const override { return commands_.size(); }

  // The steps of a wave in an order of chance: any must do.
  void run() const {
    std::mt19937 random(static_cast<std::uint32_t>(commands_.size()));
    std::vector<std::size_t> ends = waves_;
    ends.push_back(commands_.size());
    std::size_t begin = 0;
    for (const std::size_t end : ends) {
      std::vector<const Command*> wave;
      for (std::size_t i = begin; i < end; ++i) wave.push_back(&commands_[i]);
      if (begin >= (waves_.empty() ? commands_.size() : waves_[0])) {
        std::shuffle(wave.begin(), wave.end(), random);
        run_wave(wave);
      } else {
        for (const Command* command : wave) run_wave({command});
      }
      begin = end;
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

  static void run_wave(const std::vector<const Command*>& wave) {
    backend::gpu::WaveEncoder encoder;
    std::string names;
    for (const Command* command : wave) {
      encoder.begin_step(0);
      command->kernel->encode({command->inputs, command->outputs, command->scratch}, encoder);
      names += fmt::format("{}{} {}", names.empty() ? "" : ", ", command->label->name,
                           command->label->detail);
    }
    try {
      SimEncoder sink;
      encoder.end_wave(sink);
    } catch (const std::exception& e) {
      throw DeviceError(fmt::format("{}: {}", names, e.what()));
    }
  }

  std::vector<Command> commands_;
  std::vector<std::size_t> waves_;  // Where they begin.
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
  [[nodiscard]] bool wants_waves() const override { return true; }
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
