// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs plans: binds buffers, encodes steps into command buffers and commits them to a queue, or
// runs them on the calling thread where that is quicker.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "metal_candle/backend/backend.h"
#include "metal_candle/core/inline_vector.h"
#include "metal_candle/execute/mode.h"
#include "metal_candle/execute/plan.h"
#include "metal_candle/graph/storage.h"

namespace metal_candle {

/// Of the outputs of a plan.
using Values = InlineVector<Value, 2>;

/// How a plan is to be run.
struct ExecutionRequest {
  std::shared_ptr<const void> owner;  // Keeps the plan alive.
  const Plan* plan = nullptr;
  InlineVector<Value, 4> leaves;  // By leaf of the plan.
  std::vector<bool> donatable;    // Leaves whose memory nobody else will ever read; empty: none.
  int queue = 0;
  bool blocking = false;  // The caller waits for the result.
  ExecutionMode mode = ExecutionMode::kAsync;
};

/// Executes plans on one device. Thread safe.
class AsyncExecutor {
 public:
  explicit AsyncExecutor(backend::Backend& backend) : backend_(backend) {}

  /// Allocates, encodes and commits (or runs). Returns the values of the plan's outputs; their
  /// storages complete when the work does, or with its error. Throws OutOfMemoryError before
  /// anything has run.
  Values execute(ExecutionRequest request);

 private:
  struct Run;
  /// For a run that will be committed to `queue`, or with null run on this thread.
  void allocate(Run& run, backend::CommandQueue* queue) const;
  [[nodiscard]] std::shared_ptr<const backend::BufferPtr> make_arena(
      std::size_t bytes, backend::CommandQueue* queue) const;
  void encode(const Run& run, std::size_t begin, std::size_t end,
              backend::CommandBuffer& buffer) const;
  void run_on_this_thread(const IntrusivePtr<Run>& run, backend::CommandQueue& queue) const;
  void commit(const IntrusivePtr<Run>& run, backend::CommandQueue& queue,
              std::span<const CompletionPtr> dependencies) const;
  [[nodiscard]] Values values_of(const Run& run) const;

  backend::Backend& backend_;
};

}  // namespace metal_candle
