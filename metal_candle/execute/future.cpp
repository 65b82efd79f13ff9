// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Waiting for outputs, and the thread on which coroutines resume.
#include "metal_candle/execute/future.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "metal_candle/graph/node.h"

namespace metal_candle {
namespace {

class CompletionThread {
 public:
  void post(std::function<void()> fn) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(fn));
      if (stopping_) return;  // Kept, so that what it refers to is not lost, but never run.
      if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    }
    arrived_.notify_one();
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    arrived_.notify_one();
    if (thread_.joinable()) {
      if (thread_.get_id() == std::this_thread::get_id())
        thread_.detach();
      else
        thread_.join();
    }
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      arrived_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

CompletionThread& completion_thread();

CompletionThread& completion_thread() {
  static CompletionThread* instance = [] {
    auto* thread = new CompletionThread;
    std::atexit([] { completion_thread().stop(); });
    return thread;
  }();
  return *instance;
}

// Null if it was there when it was scheduled.
const CompletionPtr& completion_of(const Tensor& output) {
  return output.node()->value().storage->completion();
}

}  // namespace

bool Future::ready() const {
  return std::ranges::all_of(
      outputs_, [](const Tensor& output) { return output.node()->value().storage->ready(); });
}

void Future::wait() const {
  for (const Tensor& output : outputs_) {
    if (const CompletionPtr& completion = completion_of(output)) completion->wait();
  }
}

void Future::resume_when_ready(std::coroutine_handle<> handle, std::size_t next) const {
  while (next < outputs_.size() && !completion_of(outputs_[next])) ++next;
  if (next == outputs_.size()) {
    detail::run_on_completion_thread([handle] { handle.resume(); });
    return;
  }
  completion_of(outputs_[next])->on_complete([self = *this, handle, next] {
    self.resume_when_ready(handle, next + 1);
  });
}

void detail::run_on_completion_thread(std::function<void()> fn) {
  completion_thread().post(std::move(fn));
}

}  // namespace metal_candle
