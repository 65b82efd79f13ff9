// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The result of an asynchronous evaluation.
#pragma once

#include <coroutine>
#include <functional>
#include <span>
#include <vector>

#include "metal_candle/core/inline_vector.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {

namespace detail {
/// Runs fn on a thread kept for completions, where it may evaluate and wait as it likes: a queue's
/// own thread could not wait for that queue.
void run_on_completion_thread(std::function<void()> fn);
}  // namespace detail

/// Tensors whose computation has been queued. Cheap to copy; thread safe.
class [[nodiscard]] Future {
 public:
  Future() = default;
  /// Of outputs that have been scheduled (eval_async).
  explicit Future(std::span<const Tensor> outputs) : outputs_(outputs) {}

  /// Whether every output is computed, or has failed. Does not block.
  [[nodiscard]] bool ready() const;
  /// Blocks until ready. Rethrows the error of the computation, which names the step that failed.
  void wait() const;
  /// wait(), then the tensors, in the order they were given; valid as long as this object is.
  std::span<const Tensor> get() const {
    wait();
    return {outputs_.data(), outputs_.size()};
  }

  /// `co_await future` resumes on another thread when ready, and gives what get() gives.
  auto operator co_await() const {
    struct Awaiter {
      Future future;
      [[nodiscard]] bool await_ready() const { return future.ready(); }
      void await_suspend(std::coroutine_handle<> handle) const {
        future.resume_when_ready(handle, 0);
      }
      std::vector<Tensor> await_resume() const {
        const std::span<const Tensor> outputs = future.get();
        return {outputs.begin(), outputs.end()};
      }
    };
    return Awaiter{*this};
  }

 private:
  // Waits for one output after another; the last one resumes the coroutine. Holds copies: the
  // coroutine frame, and the awaiter in it, may be gone once it runs on.
  void resume_when_ready(std::coroutine_handle<> handle, std::size_t next) const;

  InlineVector<Tensor, 1> outputs_;
};

}  // namespace metal_candle
