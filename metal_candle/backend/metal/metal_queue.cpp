// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See metal_queue.h.
#include "metal_candle/backend/metal/metal_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "metal_candle/backend/metal/metal_backend.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::metal {
namespace {

// Of Metal's own, which also has buffers that are encoded but not committed. Observed buffers are
// cut in steps.
constexpr NS::UInteger kMetalBuffers = 1024;
constexpr std::size_t kLeastArgumentBytes = std::size_t{4} << 10;

std::uint64_t address(const BufferRegion& region) {
  if (region.buffer == nullptr) return 0;
  return static_cast<const MetalBuffer&>(*region.buffer).device_address() + region.offset;
}

std::string text_of(const StepLabel& label) { return label.name + " " + label.detail; }

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
  if (arguments_) device_.end_residency(arguments_.get());
}

void MetalCommandBuffer::add(const BufferRegion& region, OperandExtent extent,
                             std::vector<AddressRange>& ranges) {
  if (region.buffer == nullptr) return;
  const auto base = static_cast<std::int64_t>(address(region));
  ranges.push_back({static_cast<std::uint64_t>(base + extent.begin),
                    static_cast<std::uint64_t>(base + extent.end)});
  resources_.push_back(static_cast<const MetalBuffer&>(*region.buffer).handle());
}

void MetalCommandBuffer::encode(const Kernel& kernel, std::span<const BufferRegion> inputs,
                                std::span<const BufferRegion> outputs, BufferRegion scratch,
                                const StepLabel& label) {
  const auto& step = static_cast<const MetalKernel&>(kernel);
  reads_.clear();
  writes_.clear();
  addresses_.clear();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    add(inputs[i], step.inputs()[i], reads_);
    addresses_.push_back(reinterpret_cast<void*>(address(inputs[i])));
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    add(outputs[i], step.outputs()[i], writes_);
    addresses_.push_back(reinterpret_cast<void*>(address(outputs[i])));
  }
  add(scratch, {0, static_cast<std::int64_t>(step.scratch_bytes())}, writes_);
  steps_.push_back({&label, list_.commands().size()});
  list_.begin_step(device_, reads_, writes_);
  const std::span<void* const> all(addresses_);
  step.kernel().encode({all.first(inputs.size()), all.subspan(inputs.size()),
                        reinterpret_cast<void*>(address(scratch))},
                       list_);
}

void MetalCommandBuffer::clear() {
  list_.clear();
  steps_.clear();
  resources_.clear();
}

std::string MetalCommandBuffer::describe() const {
  if (steps_.empty()) return "an empty command buffer";
  const std::string first = text_of(*steps_.front().label);
  if (steps_.size() == 1) return first;
  return fmt::format("one of {} steps from {} to {} (METAL_CANDLE_MODE=sync says which)",
                     steps_.size(), first, text_of(*steps_.back().label));
}

const MTL::Buffer* MetalCommandBuffer::upload_arguments() {
  const std::span<const std::byte> bytes = list_.arguments();
  if (!arguments_ || arguments_->length() < bytes.size()) {
    if (arguments_) device_.end_residency(arguments_.get());
    arguments_ = device_.make_argument_buffer(std::max(2 * bytes.size(), kLeastArgumentBytes));
    device_.make_resident(arguments_.get());
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

void MetalQueue::encode_step(Work& work, std::size_t step, MTL::ComputeCommandEncoder& encoder) {
  const auto& steps = work.encoded().steps();
  const CommandList& list = work.encoded().list();
  const std::size_t begin = steps[step].first_command;
  const std::size_t end =
      step + 1 < steps.size() ? steps[step + 1].first_command : list.commands().size();
  if (begin == end) return;
  list.encode(encoder, step == 0 ? work.encoded().upload_arguments() : work.encoded().arguments(),
              begin, end);
}

// Holding submit_mutex_. Nothing is committed before all is encoded, so that an error leaves
// nothing behind.
void MetalQueue::submit(Work& work, std::span<const CompletionPtr> waits) {
  MetalCommandBuffer& buffer = work.encoded();
  const std::string label = buffer.describe();
  const bool observed = step_observer() != nullptr && !buffer.steps().empty();
  const std::size_t count = observed ? buffer.steps().size() : 1;
  for (std::size_t i = 0; i < count; ++i) {
    const auto commands = make_commands(observed ? text_of(*buffer.steps()[i].label) : label);
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
        encode_step(work, i, *encoder);
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
  const auto& steps = work.encoded().steps();
  if (observer == nullptr || work.commands.size() != steps.size()) return;
  const std::int64_t now = now_ns();
  const double end = work.commands.back()->GPUEndTime();
  const auto at = [&](double seconds) {
    return now - static_cast<std::int64_t>((end - seconds) * 1e9);
  };
  for (std::size_t i = 0; i < steps.size(); ++i) {
    observer->on_step(*steps[i].label, index_, at(work.commands[i]->GPUStartTime()),
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
