// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A gate before code that may not run once the process has begun to exit. oneDNN keeps the code
// that it generates in static objects: exit() destroys them, while other threads may be running
// that code, or generating it.
#pragma once

#include <atomic>
#include <cstdint>

namespace metal_candle::backend::cpu {

/// Thread safe. Constant-initialised and trivially destroyed, so that it works as a static object
/// from the first to the last moment of a process.
class ExitGate {
 public:
  /// Whether the caller may go in. If so, leave() must follow.
  [[nodiscard]] bool enter() {
    if ((state_.fetch_add(1, std::memory_order_acq_rel) & kShut) == 0) return true;
    leave();
    return false;
  }
  void leave() { state_.fetch_sub(1, std::memory_order_release); }
  /// Lets nobody in any more, and returns when everybody is out. The caller is not inside.
  void shut();
  /// In a forked child, which has none of the threads that are inside.
  void forget_others() { state_.fetch_and(kShut, std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kShut = std::uint32_t{1} << 31;
  std::atomic<std::uint32_t> state_{0};  // How many are inside, and kShut.
};

/// Shuts a gate when it is destroyed.
struct GateShutter {
  ExitGate& gate;
  ~GateShutter() { gate.shut(); }
};

/// Whether the calling thread is the one that runs main().
[[nodiscard]] bool is_main_thread();

}  // namespace metal_candle::backend::cpu
