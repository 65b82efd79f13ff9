// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The thread pool. One job runs at a time; the caller works on it too, and never needs a worker to
// turn up: it closes the job when every chunk is claimed and waits only for workers that are
// inside. So a parked (or, after fork, missing) worker costs nothing but its help.
//
// Each thread begins with a part of the range that is its own, the same one in every job, and goes
// on to those of others: what it worked on last time is in its own cache.
#include "metal_candle/backend/cpu/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "metal_candle/backend/cpu/cpu_quota.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// Idle workers poll this long before they park: longer than the gaps between the kernels of one
// evaluation and between the tokens of a small model, short enough not to show in a profile of an
// idle process.
constexpr auto kSpinTime = std::chrono::microseconds(300);
// More than one chunk a thread, so that a core that is slow (or shared) ends up with less of the
// work.
constexpr std::int64_t kChunksPerThread = 6;

// The chunks of a job that one thread begins with.
struct alignas(64) Part {
  std::atomic<std::int64_t> next{0};
  std::int64_t end = 0;
};

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Polls `done` for about kSpinTime; returns whether it became true.
template <typename Predicate>
bool spin_until(Predicate done) {
  const auto deadline = Clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      cpu_relax();
    }
  } while (Clock::now() < deadline);
  return done();
}

// Whether this thread is inside a job, as its caller or as a worker.
thread_local bool inside_job = false;

class Pool {
 public:
  explicit Pool(int threads)
      : num_threads_(threads),
        parts_(std::make_unique<Part[]>(static_cast<std::size_t>(threads))) {}

  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_.store(true);
    }
    wake_workers_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  [[nodiscard]] int num_threads() const { return num_threads_; }

  // Returns false, having done nothing, when another caller has the pool.
  bool try_run(std::int64_t count, std::int64_t grain, detail::RangeFn fn, void* context) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    if (workers_.empty()) start_workers();
    const std::int64_t units = (count + grain - 1) / grain;
    const std::int64_t chunks = std::min(units, num_threads_ * kChunksPerThread);
    fn_ = fn;
    context_ = context;
    count_ = count;
    chunk_ = (units + chunks - 1) / chunks * grain;
    share_out((count + chunk_ - 1) / chunk_);
    open_job();
    work(0);
    close_job();
    const std::exception_ptr error = std::exchange(error_, nullptr);
    busy_.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
    return true;
  }

 private:
  // state_ is the number of the job, whether it takes workers, and how many are inside.
  static constexpr std::uint64_t kInsideMask = 0xffff;
  static constexpr std::uint64_t kOpen = 0x10000;
  static constexpr std::uint64_t kJob = 0x20000;

  static bool is_new_job(std::uint64_t state, std::uint64_t last_job) {
    return (state & kOpen) != 0 && state / kJob != last_job;
  }

  void start_workers() {
    workers_.reserve(static_cast<std::size_t>(num_threads_ - 1));
    // A system that refuses another thread still computes, with those there are.
    try {
      for (int i = 1; i < num_threads_; ++i) workers_.emplace_back([this, i] { worker_loop(i); });
    } catch (const std::system_error&) {
    }
  }

  void share_out(std::int64_t chunks) {
    num_parts_ = static_cast<int>(std::min<std::int64_t>(num_threads_, chunks));
    for (int i = 0; i < num_parts_; ++i) {
      part(i).next.store(chunks * i / num_parts_, std::memory_order_relaxed);
      part(i).end = chunks * (i + 1) / num_parts_;
    }
  }

  [[nodiscard]] Part& part(int i) const { return parts_[static_cast<std::size_t>(i)]; }

  void open_job() {
    // Only the holder of busy_ gets here, and no worker is inside, so a plain store is enough; it
    // is ordered before the load of sleepers_, as a worker's increment is before its last look at
    // state_: one of the two sees the other.
    const std::uint64_t job = state_.load(std::memory_order_relaxed) / kJob + 1;
    state_.store(job * kJob + kOpen, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    { const std::lock_guard lock(mutex_); }
    wake_workers_.notify_all();
  }

  void close_job() {
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    const auto empty = [this] {
      return (state_.load(std::memory_order_seq_cst) & kInsideMask) == 0;
    };
    if (spin_until(empty)) return;
    std::unique_lock lock(mutex_);
    caller_waits_.store(true, std::memory_order_seq_cst);
    wake_caller_.wait(lock, empty);
    caller_waits_.store(false, std::memory_order_relaxed);
  }

  void work(int thread) {
    inside_job = true;
    for (int i = 0; i < num_parts_; ++i) run_part(part((thread + i) % num_parts_));
    inside_job = false;
  }

  void run_part(Part& part) {
    while (part.next.load(std::memory_order_relaxed) < part.end) {
      const std::int64_t chunk = part.next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= part.end) return;
      try {
        fn_(context_, chunk * chunk_, std::min((chunk + 1) * chunk_, count_));
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        for (int i = 0; i < num_parts_; ++i) this->part(i).next.store(this->part(i).end);
      }
    }
  }

  // Enters the job that is open, if it is not `last_job`; returns its number, or last_job.
  std::uint64_t try_enter(std::uint64_t last_job) {
    std::uint64_t state = state_.load(std::memory_order_acquire);
    while (is_new_job(state, last_job)) {
      if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
        return state / kJob;
      }
    }
    return last_job;
  }

  void leave() {
    const std::uint64_t before = state_.fetch_sub(1, std::memory_order_seq_cst);
    if ((before & kInsideMask) != 1 || !caller_waits_.load(std::memory_order_seq_cst)) return;
    { const std::lock_guard lock(mutex_); }
    wake_caller_.notify_one();
  }

  void worker_loop(int thread) {
    std::uint64_t last_job = 0;
    const auto has_news = [&] {
      return is_new_job(state_.load(std::memory_order_seq_cst), last_job) || stop_.load();
    };
    while (!stop_.load()) {
      if (!spin_until(has_news)) {
        std::unique_lock lock(mutex_);
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        wake_workers_.wait(lock, has_news);
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
      }
      const std::uint64_t job = try_enter(last_job);
      if (job == last_job) continue;
      last_job = job;
      work(thread);
      leave();
    }
  }

  const int num_threads_;
  std::vector<std::thread> workers_;  // Started by the first job.
  alignas(64) std::atomic<bool> busy_{false};

  // The job. Written by its caller before it opens, read by workers inside.
  detail::RangeFn fn_ = nullptr;
  void* context_ = nullptr;
  std::int64_t count_ = 0;
  std::int64_t chunk_ = 0;
  int num_parts_ = 0;
  std::exception_ptr error_;  // Guarded by mutex_ while the job is open.
  std::unique_ptr<Part[]> parts_;

  alignas(64) std::atomic<std::uint64_t> state_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_waits_{false};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_workers_, wake_caller_;
};

int default_num_threads() {
  if (const char* text = std::getenv("METAL_CANDLE_NUM_THREADS"); text && *text) {
    int count = 0;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), count);
    if (error != std::errc() || *end != '\0' || count < 1 || count > 4096) {
      throw FormatError(
          std::string("METAL_CANDLE_NUM_THREADS must be a number of threads, not \"") + text + '"');
    }
    return count;
  }
  int count = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) count = CPU_COUNT(&set);
  count = std::min(count, cpu_quota().value_or(count));
#endif
  return std::max(1, count);
}

// Never destroyed: kernels may run on other threads while the process exits, and parked workers
// end with it.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  if (Pool* existing = the_pool.load(std::memory_order_acquire)) return *existing;
  // A forked child has none of the threads and maybe a locked mutex, so it starts with a new pool.
  static const int registered = pthread_atfork(nullptr, nullptr, [] {
    the_pool.store(nullptr);
    inside_job = false;
  });
  static_cast<void>(registered);
  auto made = std::make_unique<Pool>(default_num_threads());
  Pool* expected = nullptr;
  if (the_pool.compare_exchange_strong(expected, made.get())) return *made.release();
  return *expected;
}

}  // namespace

int num_threads() { return pool().num_threads(); }

void set_num_threads(int count) {
  if (count < 1) {
    throw FormatError("set_num_threads: at least 1 thread, not " + std::to_string(count));
  }
  const std::unique_ptr<Pool> old(the_pool.exchange(new Pool(count)));
}

void detail::parallel_for(std::int64_t count, std::int64_t grain, RangeFn fn, void* context) {
  if (!inside_job) {
    Pool& threads = pool();
    if (threads.num_threads() > 1 && threads.try_run(count, grain, fn, context)) return;
  }
  fn(context, 0, count);
}

}  // namespace metal_candle::backend::cpu
