// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See compile_thread.h.
#include "metal_candle/backend/cuda/compile_thread.h"

#include <unistd.h>

#include <utility>

namespace metal_candle::backend::cuda {

void CompileThread::add(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    tasks_.push_back(std::move(task));
    if (!thread_.joinable()) {
      thread_ = std::thread([this] { run(); });
      process_ = ::getpid();
    }
  }
  changed_.notify_all();
}

std::uint64_t CompileThread::finish() {
  std::unique_lock lock(mutex_);
  if (process_ == ::getpid()) changed_.wait(lock, [&] { return tasks_.empty() && !busy_; });
  return done_;
}

void CompileThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    tasks_.clear();
  }
  changed_.notify_all();
  if (!thread_.joinable()) return;
  if (process_ == ::getpid()) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

void CompileThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
    if (stopping_) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    busy_ = true;
    lock.unlock();
    task();
    lock.lock();
    busy_ = false;
    ++done_;
    changed_.notify_all();
  }
}

}  // namespace metal_candle::backend::cuda
