// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See metal_queue.h.
#include "metal_candle/backend/metal/metal_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/metal/metal_backend.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::metal {
namespace {

// Of Metal's own, which also has buffers that are encoded but not committed. Observed ones are cut
// in pieces, of which one of ours may not have more than there is room for: its last has the rest.
constexpr NS::UInteger kMetalBuffers = 1024;
constexpr std::size_t kMostPieces = kMetalBuffers / 2;
constexpr std::size_t kLeastArgumentBytes = std::size_t{4} << 10;

std::uint64_t address(const BufferRegion& region) {
  if (region.buffer == nullptr) return 0;
  return static_cast<const MetalBuffer&>(*region.buffer).device_address() + region.offset;
}

// What went wrong, and where as far as is known.
std::exception_ptr device_error(const MetalCommandBuffer& buffer, const MTL::CommandBuffer& done) {
  NS::Error* error = done.error();
  const std::string text = fmt::format("{}: metal: {}", buffer.describe(),
                                       error_text(error, "the device gives no reason"));
  if (error != nullptr && error->code() == MTL::CommandBufferErrorOutOfMemory) {
    return std::make_exception_ptr(OutOfMemoryError(text));
  }
  return std::make_exception_ptr(DeviceError(text));
}

}  // namespace

MetalCommandBuffer::~MetalCommandBuffer() {
  if (arguments_) device_.give_back(arguments_->contents());
}

void MetalCommandBuffer::add(const BufferRegion& region) {
  addresses_.push_back(reinterpret_cast<void*>(address(region)));
  if (region.buffer == nullptr) return;
  resources_.push_back(static_cast<const MetalBuffer&>(*region.buffer).handle());
}

void MetalCommandBuffer::encode(const Kernel& kernel, std::span<const BufferRegion> inputs,
                                std::span<const BufferRegion> outputs, BufferRegion scratch,
                                const StepLabel& label) {
  waves_.begin_step(static_cast<std::uint32_t>(steps_.size()));
  steps_.add(label);
  addresses_.clear();
  for (const BufferRegion& region : inputs) add(region);
  for (const BufferRegion& region : outputs) add(region);
  add(scratch);
  const std::span<void* const> all(addresses_);
  static_cast<const gpu::GpuKernel&>(kernel).encode(
      {all.first(inputs.size()), all.subspan(inputs.size(), outputs.size()), all.back()}, waves_);
  if (!in_wave_) waves_.end_wave(list_);
}

void MetalCommandBuffer::begin_wave() {
  waves_.end_wave(list_);
  in_wave_ = true;
}

void MetalCommandBuffer::clear() {
  waves_.clear();
  in_wave_ = false;
  list_.clear();
  steps_.clear();
  resources_.clear();
}

std::vector<MetalCommandBuffer::Piece> MetalCommandBuffer::pieces() const {
  std::vector<Piece> all;
  const std::vector<Command>& commands = list_.commands();
  for (std::size_t first = 0, last = 0; first < commands.size(); first = last) {
    const std::span<const std::uint32_t> steps = list_.steps_of(commands[first]);
    const auto serves_them = [&](const Command& command) {
      const std::span<const std::uint32_t> others = list_.steps_of(command);
      return std::equal(steps.begin(), steps.end(), others.begin(), others.end());
    };
    while (last < commands.size() && serves_them(commands[last])) ++last;
    if (all.size() + 1 == kMostPieces) last = commands.size();
    all.push_back({first, last, steps_.of_command(steps, commands[first].begun)});
  }
  return all;
}

const MTL::Buffer* MetalCommandBuffer::upload_arguments() {
  const std::span<const std::byte> bytes = list_.arguments();
  if (!arguments_ || arguments_->length() < bytes.size()) {
    if (arguments_) device_.give_back(arguments_->contents());
    arguments_.reset();
    arguments_ = device_.make_argument_buffer(std::max(2 * bytes.size(), kLeastArgumentBytes));
  }
  std::memcpy(arguments_->contents(), bytes.data(), bytes.size());
  return arguments_.get();
}

const std::vector<const MTL::Resource*>& MetalCommandBuffer::resources() {
  std::sort(resources_.begin(), resources_.end());
  resources_.erase(std::unique(resources_.begin(), resources_.end()), resources_.end());
  return resources_;
}

MetalQueue::MetalQueue(int index, MetalDevice& device, const MetalBackend& backend)
    : index_(index), device_(device), backend_(backend), plans_(device) {
  const AutoreleaseScope scope;
  queue_ = NS::TransferPtr(device.handle()->newCommandQueue(kMetalBuffers));
  fence_ = NS::TransferPtr(device.handle()->newFence());
  event_ = NS::TransferPtr(device.handle()->newSharedEvent());
  if (!queue_ || !fence_ || !event_) throw DeviceError("metal: the device makes no command queue");
  queue_->setLabel(ns_string(fmt::format("metal-candle {}", index)));
  if (device.has_residency()) queue_->addResidencySet(device.residency());
  descriptor_ = NS::TransferPtr(MTL::CommandBufferDescriptor::alloc()->init());
  // Whoever commits holds what is used until it is done.
  descriptor_->setRetainedReferences(false);
  descriptor_->setErrorOptions(MTL::CommandBufferErrorOptionEncoderExecutionStatus);
}

MetalQueue::~MetalQueue() { stop(); }

std::unique_ptr<CommandBuffer> MetalQueue::make_command_buffer() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    ++statistics_.buffers_made;
    return std::make_unique<MetalCommandBuffer>(device_);
  }
  ++statistics_.buffers_reused;
  std::unique_ptr<CommandBuffer> buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void MetalQueue::give_back(std::unique_ptr<CommandBuffer> buffer) {
  static_cast<MetalCommandBuffer&>(*buffer).clear();
  const std::lock_guard lock(mutex_);
  if (free_.size() < 2 * kMaxPending) free_.push_back(std::move(buffer));
}

void MetalQueue::wait_for_room() {
  std::unique_lock lock(mutex_);
  if (pending_.load(std::memory_order_relaxed) >= kMaxPending) {
    ++statistics_.full_waits;
    finished_.wait(
        lock, [&] { return pending_.load(std::memory_order_relaxed) < kMaxPending || stopping_; });
  }
  if (stopping_) throw DeviceError("metal: work was committed while the process was exiting");
}

NS::SharedPtr<MTL::CommandBuffer> MetalQueue::make_commands(const std::string& label) {
  MTL::CommandBuffer* commands = queue_->commandBuffer(descriptor_.get());
  if (commands == nullptr) throw DeviceError("metal: the queue makes no command buffer");
  commands->setLabel(ns_string(label));
  return NS::RetainPtr(commands);
}

MTL::ComputeCommandEncoder* MetalQueue::begin_encoder(Work& work, MTL::CommandBuffer& commands) {
  MTL::ComputeCommandEncoder* encoder = commands.computeCommandEncoder(MTL::DispatchTypeConcurrent);
  if (encoder == nullptr) throw DeviceError("metal: the command buffer makes no encoder");
  encoder->waitForFence(fence_.get());
  if (!device_.has_residency()) {
    const auto& resources = work.encoded().resources();
    encoder->useResources(resources.data(), resources.size(),
                          MTL::ResourceUsageRead | MTL::ResourceUsageWrite);
  }
  return encoder;
}

void MetalQueue::encode_whole(Work& work, MTL::ComputeCommandEncoder& encoder) {
  const CommandList& list = work.encoded().list();
  if (list.commands().empty()) return;
  {
    const std::lock_guard lock(mutex_);
    work.plan = plans_.find(list);
  }
  if (work.plan != nullptr) {
    work.plan->execute(encoder);
  } else {
    list.encode(encoder, work.encoded().upload_arguments(), 0, list.commands().size());
  }
}

// Holding submit_mutex_. Nothing is committed before all is encoded, so that an error leaves
// nothing behind.
void MetalQueue::submit(Work& work, std::span<const CompletionPtr> waits) {
  MetalCommandBuffer& buffer = work.encoded();
  buffer.finish();
  const std::string label = buffer.describe();
  if (step_observer() != nullptr) work.pieces = buffer.pieces();
  const bool observed = !work.pieces.empty();
  const MTL::Buffer* arguments = observed ? buffer.upload_arguments() : nullptr;
  const std::size_t count = observed ? work.pieces.size() : 1;
  for (std::size_t i = 0; i < count; ++i) {
    const auto commands = make_commands(observed ? gpu::text_of(work.pieces[i].label) : label);
    for (const CompletionPtr& wait : waits) {
      if (const MetalQueue* other = backend_.find_queue(wait->source()); i == 0 && other) {
        commands->encodeWait(other->event_.get(),
                             other->submitted_.load(std::memory_order_acquire));
      }
    }
    MTL::ComputeCommandEncoder* encoder = begin_encoder(work, *commands.get());
    encoder->setLabel(commands->label());
    try {
      if (observed) {
        buffer.list().encode(*encoder, arguments, work.pieces[i].first, work.pieces[i].last);
      } else {
        encode_whole(work, *encoder);
      }
    } catch (...) {
      encoder->endEncoding();  // Or Metal aborts when the encoder goes.
      throw;
    }
    encoder->updateFence(fence_.get());
    encoder->endEncoding();
    work.commands.push_back(commands);
  }
  device_.commit_residency();
  work.number = submitted_.load(std::memory_order_relaxed) + 1;
  work.commands.back()->encodeSignalEvent(event_.get(), work.number);
  {
    const std::lock_guard lock(mutex_);
    ++statistics_.command_buffers;
    statistics_.kernels += buffer.size();
  }
  work.interval.begin(label);
}

void MetalQueue::commit(std::unique_ptr<CommandBuffer> buffer,
                        std::span<const CompletionPtr> dependencies,
                        CompletionHandler on_complete) {
  const AutoreleaseScope scope;
  std::exception_ptr error;
  std::vector<CompletionPtr> others;  // Of other queues of this device, which this one waits for.
  auto work = std::make_shared<Work>();
  work->buffer = std::move(buffer);
  work->on_complete = std::move(on_complete);
  for (const CompletionPtr& dependency : dependencies) {
    if (!dependency->ready()) {
      const MetalQueue* source = backend_.find_queue(dependency->source());
      if (source != nullptr) {
        work->dependencies.push_back(dependency);
        if (source != this) others.push_back(dependency);
        continue;
      }
    }
    if ((error = dependency->wait_for_error())) break;
  }
  if (!error) {
    const std::lock_guard submit_lock(submit_mutex_);
    wait_for_room();
    try {
      submit(*work, others);
    } catch (...) {
      error = std::current_exception();
    }
    if (!error) {
      pending_.fetch_add(1, std::memory_order_release);
      submitted_.store(work->number, std::memory_order_release);
      work->commands.back()->addCompletedHandler([this, work](MTL::CommandBuffer*) {
        const AutoreleaseScope handler_scope;
        const std::exception_ptr failure = finish(*work);
        CompletionHandler handler = std::move(work->on_complete);
        give_back(std::move(work->buffer));
        handler(failure);
        handler = nullptr;  // What it holds goes before anyone hears that the queue is idle.
        {
          const std::lock_guard lock(mutex_);
          pending_.fetch_sub(1, std::memory_order_release);
        }
        finished_.notify_all();
      });
      for (const auto& commands : work->commands) commands->commit();
      return;
    }
  }
  if (work->plan != nullptr) {
    const std::lock_guard lock(mutex_);
    work->plan->busy = false;
  }
  work->on_complete(error);
}

bool MetalQueue::run_inline(std::unique_ptr<CommandBuffer>& buffer) {
  const AutoreleaseScope scope;
  Work work;
  work.buffer = std::move(buffer);
  {
    const std::lock_guard submit_lock(submit_mutex_);
    submit(work, {});
    submitted_.store(work.number, std::memory_order_release);
    for (const auto& commands : work.commands) commands->commit();
  }
  work.commands.back()->waitUntilCompleted();
  const std::exception_ptr error = finish(work);
  give_back(std::move(work.buffer));
  {
    const std::lock_guard lock(mutex_);
    ++statistics_.inline_buffers;
  }
  if (error) std::rethrow_exception(error);
  return true;
}

// What there is to do when the device is done: the error, if there is one.
std::exception_ptr MetalQueue::finish(Work& work) {
  work.interval.end();
  if (work.plan != nullptr) {
    const std::lock_guard lock(mutex_);
    work.plan->busy = false;
  }
  std::exception_ptr error;
  for (const CompletionPtr& dependency : work.dependencies) {
    // Those are done by now; one whose waiters are just being told is not looked at.
    if (!error && dependency->ready()) error = dependency->wait_for_error();
  }
  for (const auto& commands : work.commands) {
    if (!error && commands->status() == MTL::CommandBufferStatusError) {
      error = device_error(work.encoded(), *commands.get());
    }
  }
  // A buffer that failed does not signal.
  if (error && event_->signaledValue() < work.number) event_->setSignaledValue(work.number);
  if (!error) report(work);
  return error;
}

// Times of the device, placed so that the last step ends now.
void MetalQueue::report(const Work& work) const {
  StepObserver* observer = step_observer();
  if (observer == nullptr || work.pieces.empty()) return;
  const std::int64_t now = now_ns();
  const double end = work.commands.back()->GPUEndTime();
  const auto at = [&](double seconds) {
    return now - static_cast<std::int64_t>((end - seconds) * 1e9);
  };
  for (std::size_t i = 0; i < work.pieces.size(); ++i) {
    observer->on_step(work.pieces[i].label, index_, at(work.commands[i]->GPUStartTime()),
                      at(work.commands[i]->GPUEndTime()));
  }
}

void MetalQueue::synchronize() {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] { return idle(); });
}

void MetalQueue::stop() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  finished_.notify_all();
  finished_.wait(lock, [&] { return idle(); });
}

QueueStatistics MetalQueue::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

ReplayStatistics MetalQueue::replay_statistics() const {
  const std::lock_guard lock(mutex_);
  return plans_.statistics();
}

}  // namespace metal_candle::backend::metal
