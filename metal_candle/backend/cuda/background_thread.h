// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Where what nobody waits for is done: kernels are compiled, first uses prepared.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace metal_candle::backend::cuda {

/// A thread that does one task after another, in the order in which they come; started with the
/// first. Thread safe. It stops by itself as the process exits, before NVRTC's own objects are
/// destroyed, under whose hands a compiler would go astray.
class BackgroundThread {
 public:
  BackgroundThread();
  ~BackgroundThread();
  BackgroundThread(const BackgroundThread&) = delete;
  BackgroundThread& operator=(const BackgroundThread&) = delete;

  /// `task` throws nothing. After stop(), it is forgotten.
  void add(std::function<void()> task);
  /// Waits until no task is left, and returns how many have been done.
  std::uint64_t finish();
  /// Waits for the task that it is at, and forgets the others.
  void stop();
  static void stop_all();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::uint64_t done_ = 0;
  bool busy_ = false;
  bool stopping_ = false;
  pid_t process_ = 0;  // In which the thread runs: a child that was forked has none.
  std::thread thread_;
};

}  // namespace metal_candle::backend::cuda
