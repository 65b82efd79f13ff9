// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The result of an asynchronous evaluation.
#pragma once

#include <coroutine>
#include <utility>
#include <vector>

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
  Future(std::vector<Tensor> outputs, std::vector<CompletionPtr> completions)
      : outputs_(std::move(outputs)), completions_(std::move(completions)) {}

  /// Whether every output is computed, or has failed. Does not block.
  [[nodiscard]] bool ready() const {
    for (const CompletionPtr& completion : completions_) {
      if (!completion->ready()) return false;
    }
    return true;
  }
  /// Blocks until ready. Rethrows the error of the computation, which names the step that failed.
  void wait() const {
    for (const CompletionPtr& completion : completions_) completion->wait();
  }
  /// wait(), then the tensors, in the order they were given.
  const std::vector<Tensor>& get() const {
    wait();
    return outputs_;
  }

  /// `co_await future` resumes on another thread when ready, and gives what get() gives.
  auto operator co_await() const {
    struct Awaiter {
      Future future;
      [[nodiscard]] bool await_ready() const { return future.ready(); }
      void await_suspend(std::coroutine_handle<> handle) const {
        future.resume_when_ready(handle, 0);
      }
      std::vector<Tensor> await_resume() const { return future.get(); }
    };
    return Awaiter{*this};
  }

 private:
  // Waits for one completion after another; the last one resumes the coroutine. Holds copies: the
  // coroutine frame, and the awaiter in it, may be gone once it runs on.
  void resume_when_ready(std::coroutine_handle<> handle, std::size_t next) const {
    if (next == completions_.size()) {
      detail::run_on_completion_thread([handle] { handle.resume(); });
      return;
    }
    completions_[next]->on_complete(
        [self = *this, handle, next] { self.resume_when_ready(handle, next + 1); });
  }

  std::vector<Tensor> outputs_;
  std::vector<CompletionPtr> completions_;
};

}  // namespace metal_candle
