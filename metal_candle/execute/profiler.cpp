// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See profiler.h. Format: Trace Event Format, "complete" events (ph X), times in microseconds.
#include "metal_candle/execute/profiler.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <vector>

#include "metal_candle/backend/backend.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"

namespace metal_candle {
namespace {

struct Event {
  std::string name;
  std::string detail;
  int queue;
  std::int64_t start_ns;
  std::int64_t end_ns;
  double bytes;
  double flops;
};

class Recorder final : public backend::StepObserver {
 public:
  void on_step(const backend::StepLabel& label, int queue, std::int64_t start_ns,
               std::int64_t end_ns) override {
    const std::lock_guard lock(mutex_);
    events_.push_back(
        {label.name, label.detail, queue, start_ns, end_ns, label.bytes, label.flops});
  }

  void start(const std::string& path) {
    const std::lock_guard lock(mutex_);
    if (!path_.empty())
      throw Error("start_trace: a trace is being written to " + path_ + " already");
    path_ = path;
    events_.clear();
    origin_ns_ = backend::now_ns();
  }

  [[nodiscard]] bool recording() {
    const std::lock_guard lock(mutex_);
    return !path_.empty();
  }

  void stop() {
    const std::lock_guard lock(mutex_);
    if (path_.empty()) throw Error("stop_trace: no trace was started");
    const std::string path = std::exchange(path_, {});
    write_file_atomically(path, to_json());
    events_.clear();
  }

 private:
  [[nodiscard]] std::string to_json() const {
    std::string text = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";
    const auto out = std::back_inserter(text);
    for (std::size_t i = 0; i < events_.size(); ++i) {
      const Event& e = events_[i];
      // Names and shapes hold nothing that JSON would need escaped.
      fmt::format_to(
          out,
          "{{\"name\":\"{}\",\"cat\":\"step\",\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{:.3f},"
          "\"dur\":{:.3f},\"args\":{{\"shapes\":\"{}\",\"bytes\":{:.0f},\"flops\":{:.0f}}}}}{}\n",
          e.name, e.queue, static_cast<double>(e.start_ns - origin_ns_) * 1e-3,
          static_cast<double>(e.end_ns - e.start_ns) * 1e-3, e.detail, e.bytes, e.flops,
          i + 1 < events_.size() ? "," : "");
    }
    text += "]}\n";
    return text;
  }

  std::mutex mutex_;
  std::string path_;
  std::vector<Event> events_;
  std::int64_t origin_ns_ = 0;
};

Recorder& recorder() {
  static auto* instance = new Recorder;  // Steps may end while the process exits.
  return *instance;
}

}  // namespace

void start_trace(const std::string& path) {
  recorder().start(path);
  backend::set_step_observer(&recorder());
}

void stop_trace() {
  if (recorder().recording()) synchronize();
  backend::set_step_observer(nullptr);
  recorder().stop();
}

void start_trace_from_environment() {
  static const bool started = [] {
    const char* path = std::getenv("METAL_CANDLE_TRACE");
    if (path == nullptr || *path == '\0') return false;
    start_trace(path);
    std::atexit([] {
      try {
        if (recorder().recording()) stop_trace();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "metal-candle: METAL_CANDLE_TRACE: %s\n", error.what());
      }
    });
    return true;
  }();
  (void)started;
}

}  // namespace metal_candle
