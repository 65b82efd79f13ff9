// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See trace_file.h.
#include "metal_candle/execute/trace_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "metal_candle/core/host_observer.h"

namespace metal_candle {
namespace {

constexpr int kHostProcess = 100;

// In quotes.
std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

int TraceFile::process_of(Device device) {
  const auto [found, added] =
      processes_.try_emplace({static_cast<int>(device.type), static_cast<int>(device.index)},
                             static_cast<int>(processes_.size()) + 1);
  return found->second;
}

void TraceFile::add_step(const backend::StepLabel& label, int queue, std::int64_t start_ns,
                         std::int64_t end_ns) {
  events_.push_back({label.name, "step", process_of(label.device), queue, start_ns, end_ns,
                     fmt::format("{{\"shapes\":\"{}\",\"bytes\":{:.0f},\"flops\":{:.0f}}}",
                                 label.detail, label.bytes, label.flops)});
}

void TraceFile::add_span(std::string_view name, const char* category, std::int64_t start_ns,
                         std::int64_t end_ns) {
  // A phase that began before the trace did is cut.
  events_.push_back({std::string(name),
                     category,
                     kHostProcess,
                     host_thread_number(),
                     std::max(start_ns, origin_ns_),
                     std::max(end_ns, origin_ns_),
                     {}});
}

void TraceFile::add_memory(Device device, std::size_t bytes, std::int64_t time_ns) {
  samples_.push_back({process_of(device), time_ns, bytes});
}

std::string TraceFile::to_json() const {
  std::string text = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[";
  const auto out = std::back_inserter(text);
  const char* separator = "\n";
  const auto next = [&] { text += std::exchange(separator, ",\n"); };
  const auto microseconds = [&](std::int64_t ns) { return static_cast<double>(ns) * 1e-3; };
  const auto name_of = [&](const char* what, int process, int thread, const std::string& name) {
    next();
    fmt::format_to(
        out, "{{\"name\":\"{}\",\"ph\":\"M\",\"pid\":{},\"tid\":{},\"args\":{{\"name\":{}}}}}",
        what, process, thread, json_string(name));
  };
  for (const Event& e : events_) {
    next();
    fmt::format_to(out,
                   "{{\"name\":{},\"cat\":\"{}\",\"ph\":\"X\",\"pid\":{},\"tid\":{},\"ts\":{:.3f},"
                   "\"dur\":{:.3f}{}{}}}",
                   json_string(e.name), e.category, e.process, e.thread,
                   microseconds(e.start_ns - origin_ns_), microseconds(e.end_ns - e.start_ns),
                   e.arguments.empty() ? "" : ",\"args\":", e.arguments);
  }
  for (const Sample& s : samples_) {
    next();
    fmt::format_to(out,
                   "{{\"name\":\"bytes in use\",\"ph\":\"C\",\"pid\":{},\"ts\":{:.3f},"
                   "\"args\":{{\"bytes\":{}}}}}",
                   s.process, microseconds(s.time_ns - origin_ns_), s.bytes);
  }
  std::set<std::pair<int, int>> tracks;
  for (const Event& e : events_) tracks.emplace(e.process, e.thread);
  for (const auto& [process, thread] : tracks) {
    name_of("thread_name", process, thread,
            fmt::format("{} {}", process == kHostProcess ? "thread" : "queue", thread));
  }
  for (const auto& [device, process] : processes_) {
    name_of("process_name", process, 0,
            to_string(Device{static_cast<DeviceType>(device.first),
                             static_cast<std::uint8_t>(device.second)}));
  }
  if (!tracks.empty() && tracks.rbegin()->first == kHostProcess) {
    name_of("process_name", kHostProcess, 0, "host");
  }
  text += "\n]}\n";
  return text;
}

}  // namespace metal_candle
