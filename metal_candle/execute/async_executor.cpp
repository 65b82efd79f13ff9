// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See async_executor.h.
#include "metal_candle/execute/async_executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/core/host_observer.h"
#include "metal_candle/core/recycled.h"
#include "metal_candle/execute/statistics.h"

namespace metal_candle {

using backend::Buffer;
using backend::BufferPtr;
using backend::BufferRegion;

namespace {

// Memory for the intermediates of runs that follow each other on a queue. What one thread queues
// there runs in the order it was queued, so that each run may overwrite the intermediates of the
// one before it. (Those of two threads may alternate, command buffer by command buffer.) A run that
// needs more waits until the smaller arena is free, if it is large enough to matter: two at once
// are more memory than any plan predicted.
constexpr std::size_t kArenaWorthAWait = std::size_t{1} << 20;
using Arena = std::shared_ptr<const BufferPtr>;
thread_local std::map<const backend::CommandQueue*, std::weak_ptr<const BufferPtr>> latest_arenas;

}  // namespace

// One run of a plan: everything that must live until the last kernel has finished.
struct AsyncExecutor::Run : RefCounted, Recycled<Run> {
  // Where a leaf or an output begins. That of an output is not 0 where memory was donated.
  struct Place {
    BufferPtr buffer;
    std::int64_t offset;
  };

  ExecutionRequest request;
  InlineVector<Place, 4> leaves;
  // A leaf read on a queue other than 0 must not be overwritten by work on queue 0, which does not
  // wait for it: holding the storage says that it is not exclusive.
  std::vector<StoragePtr> leaf_storages;
  InlineVector<Place, 2> outputs;
  Arena arena;
  CompletionPtr completion;  // Null when it has already run.

  [[nodiscard]] const Plan& plan() const { return *request.plan; }

  // When everything has run, and before anyone is told, who may count on there being room again.
  void release_memory() {
    request.leaves.clear();
    leaves.clear();
    leaf_storages.clear();
    outputs.clear();
    arena.reset();
  }

  [[nodiscard]] BufferRegion bind(const PlanRegion& region) const {
    const auto index = static_cast<std::size_t>(region.index);
    const auto at = [](const BufferPtr& buffer, std::int64_t offset) {
      return BufferRegion{buffer.get(), static_cast<std::size_t>(offset)};
    };
    switch (region.kind) {
      case PlanRegion::Kind::kNone:
        return {};
      case PlanRegion::Kind::kLeaf:
        return at(leaves[index].buffer, leaves[index].offset + region.offset);
      case PlanRegion::Kind::kOutput:
        return at(outputs[index].buffer, outputs[index].offset + region.offset);
      case PlanRegion::Kind::kArena:
        break;
    }
    return at(*arena, region.offset);
  }
};

Values AsyncExecutor::execute(ExecutionRequest request) {
  auto run = make_intrusive<Run>();
  run->request = std::move(request);
  const ExecutionRequest& r = run->request;
  backend::CommandQueue& queue = backend_.queue(r.queue);
  std::vector<CompletionPtr> dependencies;
  for (const Value& leaf : r.leaves) {
    const StoragePtr& storage = leaf.storage;
    run->leaves.push_back({BufferPtr(static_cast<Buffer*>(storage->buffer())),
                           static_cast<std::int64_t>(leaf.offset)});
    if (r.queue != 0) run->leaf_storages.push_back(storage);
    const CompletionPtr& completion = storage->completion();
    if (!completion || (completion->ready() && !completion->wait_for_error())) continue;
    if (std::find(dependencies.begin(), dependencies.end(), completion) == dependencies.end()) {
      dependencies.push_back(completion);
    }
  }
  const bool at_once = dependencies.empty() && queue.idle() &&
                       (r.blocking || r.plan->moves_at_most(backend_.bytes_worth_a_queue()));
  const bool wants_queue = r.mode == ExecutionMode::kAsync && !at_once;
  allocate(*run, wants_queue ? &queue : nullptr);
  if (HostObserver* observer = host_observer()) {
    observer->on_memory(backend_.device(), backend_.memory().in_use);
  }
  if (r.plan->steps.empty()) return values_of(*run);

  if (!wants_queue) {
    try {
      for (const CompletionPtr& dependency : dependencies) {
        statistics().waits.fetch_add(1, std::memory_order_relaxed);
        dependency->wait();
      }
      run_on_this_thread(run, queue);
    } catch (...) {
      // The outputs have failed, as they would have on a queue: whoever reads them is told.
      run->completion = make_intrusive<Completion>();
      run->completion->complete(std::current_exception());
    }
    return values_of(*run);
  }
  run->completion = make_intrusive<Completion>(&queue);
  Values values = values_of(*run);
  commit(run, queue, dependencies);
  return values;
}

void AsyncExecutor::allocate(Run& run, backend::CommandQueue* queue) const {
  const Plan& plan = run.plan();
  try {
    for (const std::size_t bytes : plan.output_buffers) {
      const auto index = static_cast<std::int32_t>(run.outputs.size());
      const auto donation =
          std::find_if(plan.donations.begin(), plan.donations.end(), [&](const Donation& d) {
            return d.output_buffer == index && !run.request.donatable.empty() &&
                   run.request.donatable[static_cast<std::size_t>(d.leaf)];
          });
      if (donation != plan.donations.end()) {
        statistics().donations.fetch_add(1, std::memory_order_relaxed);
        run.outputs.push_back(run.leaves[static_cast<std::size_t>(donation->leaf)]);
      } else {
        run.outputs.push_back({backend_.allocate(bytes), 0});
      }
    }
    if (plan.arena_bytes > 0) run.arena = make_arena(plan.arena_bytes, queue);
  } catch (const OutOfMemoryError& error) {
    const backend::StepLabel* peak =
        plan.steps.empty()
            ? nullptr
            : &plan.steps[static_cast<std::size_t>(std::max(plan.peak_step, 0))].label;
    throw OutOfMemoryError(
        fmt::format("evaluation needs {} bytes: {} for outputs and {} for intermediates, most at "
                    "step {} {}: {}",
                    plan.peak_bytes(), plan.output_bytes(), plan.arena_bytes,
                    peak ? peak->name : "none", peak ? peak->detail : "", error.what()));
  }
}

Arena AsyncExecutor::make_arena(std::size_t bytes, backend::CommandQueue* queue) const {
  if (queue == nullptr) return std::make_shared<const BufferPtr>(backend_.allocate(bytes));
  std::weak_ptr<const BufferPtr>& latest = latest_arenas[queue];
  if (Arena arena = latest.lock()) {
    if ((*arena)->size() >= bytes) return arena;
    const bool matters = (*arena)->size() >= kArenaWorthAWait;
    arena.reset();
    if (matters) queue->synchronize();
  }
  Arena arena = std::make_shared<const BufferPtr>(backend_.allocate(bytes));
  latest = arena;
  return arena;
}

void AsyncExecutor::encode(const Run& run, std::size_t begin, std::size_t end,
                           backend::CommandBuffer& buffer) const {
  InlineVector<BufferRegion, 16> regions;
  std::int32_t wave = -1;
  for (std::size_t s = begin; s < end; ++s) {
    const PlanStep& step = run.plan().steps[s];
    if (step.wave != wave) buffer.begin_wave();
    wave = step.wave;
    regions.clear();
    for (const PlanRegion& region : step.inputs) regions.push_back(run.bind(region));
    for (const PlanRegion& region : step.outputs) regions.push_back(run.bind(region));
    const std::span<const BufferRegion> all(regions.data(), regions.size());
    buffer.encode(*step.kernel, all.first(step.inputs.size()), all.subspan(step.inputs.size()),
                  run.bind(step.scratch), step.label);
  }
}

void AsyncExecutor::run_on_this_thread(const IntrusivePtr<Run>& run,
                                       backend::CommandQueue& queue) const {
  const ScopedPhase encoding(HostPhase::kEncode);
  const std::size_t count = run->plan().steps.size();
  // Sync and eager modes batch nothing.
  const std::size_t batch = run->request.mode == ExecutionMode::kAsync ? count : 1;
  for (std::size_t begin = 0; begin < count; begin += batch) {
    const std::size_t end = std::min(count, begin + batch);
    std::unique_ptr<backend::CommandBuffer> buffer = queue.make_command_buffer();
    encode(*run, begin, end, *buffer);
    if (queue.run_inline(buffer)) continue;
    // A device that runs only what is queued.
    const auto done = make_intrusive<Completion>();
    queue.commit(std::move(buffer), {},
                 [run, done](const std::exception_ptr& error) { done->complete(error); });
    statistics().waits.fetch_add(1, std::memory_order_relaxed);
    done->wait();
  }
}

void AsyncExecutor::commit(const IntrusivePtr<Run>& run, backend::CommandQueue& queue,
                           std::span<const CompletionPtr> dependencies) const {
  const ScopedPhase encoding(HostPhase::kEncode);
  const std::size_t count = run->plan().steps.size();
  CompletionPtr previous;  // Of the buffer before: its failure stops those after it.
  const std::size_t batch = backend_.steps_per_command_buffer();
  for (std::size_t begin = 0; begin < count; begin += batch) {
    const std::size_t end = std::min(count, begin + batch);
    std::unique_ptr<backend::CommandBuffer> buffer = queue.make_command_buffer();
    encode(*run, begin, end, *buffer);
    const bool is_last = end == count;
    const CompletionPtr done = is_last ? run->completion : make_intrusive<Completion>(&queue);
    const std::span<const CompletionPtr> waits_for =
        previous ? std::span<const CompletionPtr>(&previous, 1) : dependencies;
    queue.commit(std::move(buffer), waits_for, [run, done, is_last](std::exception_ptr error) {
      // A buffer that failed without having run may be told before an earlier one has finished.
      if (is_last && !error) run->release_memory();
      done->complete(std::move(error));
    });
    previous = done;
  }
}

Values AsyncExecutor::values_of(const Run& run) const {
  InlineVector<StoragePtr, 2> storages;
  for (const auto& [buffer, offset] : run.outputs) {
    storages.push_back(
        make_intrusive<Storage>(backend_.device(), buffer, buffer->contents(), run.completion));
  }
  Values values;
  values.reserve(run.plan().outputs.size());
  for (const PlanOutput& output : run.plan().outputs) {
    const auto index = static_cast<std::size_t>(output.region.index);
    Value value;
    value.strides = output.strides;
    if (output.region.kind == PlanRegion::Kind::kLeaf) {
      value.storage = run.request.leaves[index].storage;
      value.offset = static_cast<std::size_t>(run.leaves[index].offset + output.region.offset);
    } else {
      value.storage = storages[index];
      value.offset = static_cast<std::size_t>(run.outputs[index].offset + output.region.offset);
    }
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace metal_candle
