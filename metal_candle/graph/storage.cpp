// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Completion: atomics for the common case, a mutex only for callbacks.
#include "metal_candle/graph/storage.h"

#include <utility>

#include "metal_candle/core/host_observer.h"

namespace metal_candle {

std::exception_ptr Completion::wait_for_error() const {
  std::uint32_t state = state_.load(std::memory_order_acquire);
  if (state == kPending) {
    const ScopedPhase waiting(HostPhase::kWait);
    if (source_ != nullptr) source_->hasten(*this);
    while ((state = state_.load(std::memory_order_acquire)) == kPending) {
      state_.wait(kPending, std::memory_order_acquire);
    }
  }
  return state == kFailed ? error_ : nullptr;
}

void Completion::wait() const {
  if (std::exception_ptr error = wait_for_error()) std::rethrow_exception(error);
}

void Completion::on_complete(std::function<void()> fn) {
  {
    const std::lock_guard lock(mutex_);
    if (!ready()) {
      callbacks_.push_back(std::move(fn));
      return;
    }
  }
  fn();
}

void Completion::complete(std::exception_ptr error) {
  // A waiter may drop the last other reference as soon as it sees the state.
  const IntrusivePtr<Completion> self(this);
  std::vector<std::function<void()>> callbacks;
  {
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
    state_.store(error_ ? kFailed : kDone, std::memory_order_release);
    callbacks.swap(callbacks_);
  }
  state_.notify_all();
  for (const auto& callback : callbacks) callback();
}

}  // namespace metal_candle
