// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See profiler.h. One recorder observes steps, host threads and ranges, for whichever of a trace
// and a profile is being recorded.
#include "metal_candle/execute/profiler.h"

#include <fmt/format.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/registry.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/profile_sums.h"
#include "metal_candle/execute/trace_file.h"

namespace metal_candle {
namespace {

class Recorder final : public backend::StepObserver, public HostObserver {
 public:
  void on_step(const backend::StepLabel& label, int queue, std::int64_t start_ns,
               std::int64_t end_ns) override {
    const std::lock_guard lock(mutex_);
    if (trace_) trace_->add_step(label, queue, start_ns, end_ns);
    if (sums_) sums_->add_step(label, queue, start_ns, end_ns);
  }

  void on_phase(HostPhase phase, std::int64_t start_ns, std::int64_t end_ns,
                std::int64_t own_ns) override {
    // Nodes are many, and made by many threads at once: they do not take the lock.
    phases_.add(phase, own_ns);
    if (phase == HostPhase::kBuild || !tracing_.load(std::memory_order_relaxed)) return;
    const std::lock_guard lock(mutex_);
    if (trace_) trace_->add_span(name(phase), "host", start_ns, end_ns);
  }

  void on_memory(Device device, std::size_t bytes) override {
    const std::int64_t now = backend::now_ns();
    const std::lock_guard lock(mutex_);
    if (trace_) trace_->add_memory(device, bytes, now);
    if (sums_) sums_->add_memory(device, bytes, now);
  }

  void on_range(const std::string& name, std::int64_t start_ns, std::int64_t end_ns) {
    const std::lock_guard lock(mutex_);
    if (trace_) trace_->add_span(name, "range", start_ns, end_ns);
    if (sums_) sums_->add_range(name, end_ns - start_ns);
  }

  void start_trace(const std::string& path) {
    const std::lock_guard lock(mutex_);
    if (trace_) {
      throw Error("start_trace: a trace is being written to " + trace_->path() + " already");
    }
    trace_ = std::make_unique<TraceFile>(path, backend::now_ns());
    tracing_ = true;
    observe();
  }

  [[nodiscard]] bool tracing() const { return tracing_.load(); }

  void stop_trace() {
    std::unique_ptr<TraceFile> trace;
    {
      const std::lock_guard lock(mutex_);
      if (!trace_) throw Error("stop_trace: no trace was started");
      trace = std::move(trace_);
      tracing_ = false;
      observe();
    }
    write_file_atomically(trace->path(), trace->to_json());
  }

  void start_profile() {
    const std::lock_guard lock(mutex_);
    if (sums_) throw Error("start_profile: a profile is being recorded already");
    phases_.reset();
    sums_ = std::make_unique<ProfileSums>(backend::now_ns());
    observe();
  }

  [[nodiscard]] bool profiling() {
    const std::lock_guard lock(mutex_);
    return sums_ != nullptr;
  }

  Profile stop_profile() {
    std::unique_ptr<ProfileSums> sums;
    {
      const std::lock_guard lock(mutex_);
      if (!sums_) throw Error("stop_profile: no profile was started");
      sums = std::move(sums_);
      observe();
    }
    return sums->finish(backend::now_ns(), phases_.totals());
  }

 private:
  // Switches observation on or off. Holding the lock.
  void observe() {
    const bool wanted = trace_ || sums_;
    backend::set_step_observer(wanted ? this : nullptr);
    set_host_observer(wanted ? this : nullptr);
    if (wanted != observing_) detail::range_listeners.fetch_add(wanted ? 1 : -1);
    observing_ = wanted;
  }

  std::mutex mutex_;
  std::unique_ptr<TraceFile> trace_;
  std::unique_ptr<ProfileSums> sums_;
  bool observing_ = false;
  std::atomic<bool> tracing_{false};
  PhaseSums phases_;
};

Recorder& recorder() {
  static auto* instance = new Recorder;  // Steps may end while the process exits.
  return *instance;
}

// As synchronize() does, but not a phase.
void finish_work() {
  for (backend::Backend* backend : backend::backends_in_use()) {
    for (int i = 0; i < backend->num_queues(); ++i) backend->queue(i).synchronize();
  }
}

}  // namespace

void start_trace(const std::string& path) { recorder().start_trace(path); }

void stop_trace() {
  if (recorder().tracing()) finish_work();
  recorder().stop_trace();
}

void start_trace_from_environment() {
  static const bool started = [] {
    const char* path = std::getenv("METAL_CANDLE_TRACE");
    if (path == nullptr || *path == '\0' || recorder().tracing()) return false;
    start_trace(path);
    std::atexit([] {
      try {
        if (recorder().tracing()) stop_trace();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "metal-candle: METAL_CANDLE_TRACE: %s\n", error.what());
      }
    });
    return true;
  }();
  (void)started;
}

void start_profile() { recorder().start_profile(); }

Profile stop_profile() {
  if (recorder().profiling()) finish_work();
  return recorder().stop_profile();
}

void ProfileScope::begin(std::string_view name) {
  name_ = name;
  markers_ = detail::push_range(name_.c_str());
  start_ns_ = backend::now_ns();
  active_ = true;
}

void ProfileScope::end() {
  detail::pop_range(markers_);
  recorder().on_range(name_, start_ns_, backend::now_ns());
}

}  // namespace metal_candle
