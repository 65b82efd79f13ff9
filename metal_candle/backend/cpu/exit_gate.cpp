// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See exit_gate.h.
#include "metal_candle/backend/cpu/exit_gate.h"

#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace metal_candle::backend::cpu {
void ExitGate::shut() {
  state_.fetch_or(kShut, std::memory_order_acq_rel);
  while ((state_.load(std::memory_order_acquire) & ~kShut) != 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

bool is_main_thread() {
#if defined(__linux__)
  return gettid() == getpid();
#elif defined(__APPLE__)
  return pthread_main_np() != 0;
#else
  return false;
#endif
}

}  // namespace metal_candle::backend::cpu
