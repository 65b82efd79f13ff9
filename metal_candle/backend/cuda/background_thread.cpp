// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See background_thread.h.
#include "metal_candle/backend/cuda/background_thread.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <set>
#include <utility>

namespace metal_candle::backend::cuda {
namespace {

constexpr std::chrono::seconds kPatience{5};

// Those that there are. Never destroyed: it is needed as the process exits.
struct Threads {
  std::mutex mutex;
  std::set<BackgroundThread*> all;
};
Threads& threads() {
  static auto* instance = new Threads;
  return *instance;
}

// What NVRTC makes when it is first used is destroyed before handlers run that were registered
// earlier, and it is used late. But first of all a thread that exits the process destroys its own
// variables. Other threads do so when they end, which means nothing.
struct StopsWithMainThread {
  ~StopsWithMainThread() {
    if (::gettid() == ::getpid()) BackgroundThread::stop_all();
  }
};
void stop_with_main_thread() {
  static thread_local const StopsWithMainThread stops;
  static_cast<void>(&stops);  // Makes it.
}

}  // namespace

BackgroundThread::BackgroundThread() {
  stop_with_main_thread();
  const std::lock_guard lock(threads().mutex);
  threads().all.insert(this);
}

BackgroundThread::~BackgroundThread() {
  {
    const std::lock_guard lock(threads().mutex);
    threads().all.erase(this);
  }
  stop();
}

void BackgroundThread::stop_all() {
  const std::lock_guard lock(threads().mutex);
  for (BackgroundThread* thread : threads().all) thread->stop();
}

void BackgroundThread::add(std::function<void()> task) {
  stop_with_main_thread();
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

std::uint64_t BackgroundThread::finish() {
  std::unique_lock lock(mutex_);
  if (process_ == ::getpid()) changed_.wait(lock, [&] { return tasks_.empty() && !busy_; });
  return done_;
}

void BackgroundThread::stop() {
  bool idle = false;
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    tasks_.clear();
    changed_.notify_all();
    if (!thread_.joinable()) return;
    // Never long: a process that exits in spite of what is said above must not hang.
    idle = process_ == ::getpid() && changed_.wait_for(lock, kPatience, [&] { return !busy_; });
  }
  if (idle) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

void BackgroundThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
    if (stopping_) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    busy_ = true;
    lock.unlock();
    task();
    // Where another thread exits the process: NVRTC has made what it makes.
    static const int registered = std::atexit(&BackgroundThread::stop_all);
    static_cast<void>(registered);
    lock.lock();
    busy_ = false;
    ++done_;
    changed_.notify_all();
  }
}

}  // namespace metal_candle::backend::cuda
