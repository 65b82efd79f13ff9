// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The events of a trace, and the JSON that they become: Chrome's Trace Event Format, with complete
// events (ph X) in microseconds.
// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metal_candle/backend/backend.h"

namespace metal_candle {

/// Not thread safe.
class TraceFile {
 public:
  /// Times are given from `origin_ns` on.
  TraceFile(std::string path, std::int64_t origin_ns)
      : path_(std::move(path)), origin_ns_(origin_ns) {}
  [[nodiscard]] const std::string& path() const { return path_; }

  /// A step, on the track of its queue.
  void add_step(const backend::StepLabel& label, int queue, std::int64_t start_ns,
                std::int64_t end_ns);
  /// A span of the calling thread.
  void add_span(std::string_view name, const char* category, std::int64_t start_ns,
                std::int64_t end_ns);
  void add_memory(Device device, std::size_t bytes, std::int64_t time_ns);

  /// A track a queue, under its device; a track a host thread; a counter a device.
  [[nodiscard]] std::string to_json() const;

 private:
  struct Event {
    std::string name;
    const char* category;
    int process, thread;
    std::int64_t start_ns, end_ns;
    std::string arguments;  // JSON, or empty.
  };
  struct Sample {
    int process;
    std::int64_t time_ns;
    std::size_t bytes;
  };
  // Of the trace: a device is one, the host another.
  int process_of(Device device);

  std::string path_;
  std::int64_t origin_ns_;
  std::vector<Event> events_;
  std::vector<Sample> samples_;
  std::map<std::pair<int, int>, int> processes_;  // By type and index of the device.
};

}  // namespace metal_candle
