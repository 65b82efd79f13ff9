// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See host_observer.h.
#include "metal_candle/core/host_observer.h"

#include <array>
#include <chrono>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

thread_local ScopedPhase* innermost = nullptr;
thread_local bool ignored = false;

constexpr std::size_t kMaxMarkers = 4;
std::array<std::atomic<RangeMarker*>, kMaxMarkers> markers{};
std::atomic<std::size_t> marker_count{0};

std::int64_t clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::string_view name(HostPhase phase) {
  switch (phase) {
    case HostPhase::kBuild:
      return "build";
    case HostPhase::kFindPlan:
      return "find plan";
    case HostPhase::kOptimize:
      return "optimise";
    case HostPhase::kPlan:
      return "plan";
    case HostPhase::kEncode:
      return "encode";
    case HostPhase::kCompute:
      return "compute";
    case HostPhase::kWait:
      break;
  }
  return "wait";
}

void set_host_observer(HostObserver* observer) {
  detail::current_host_observer.store(observer, std::memory_order_release);
}
HostObserver* host_observer() {
  return detail::current_host_observer.load(std::memory_order_acquire);
}

int host_thread_number() {
  static std::atomic<int> next{0};
  thread_local const int number = next.fetch_add(1, std::memory_order_relaxed);
  return number;
}

void ignore_phases_of_this_thread() { ignored = true; }

void ScopedPhase::begin(HostPhase phase) {
  observer_ = ignored ? nullptr : host_observer();
  if (observer_ == nullptr) return;
  phase_ = phase;
  outer_ = innermost;
  innermost = this;
  start_ns_ = clock_ns();
}

void ScopedPhase::end() {
  const std::int64_t end_ns = clock_ns();
  innermost = outer_;
  if (outer_ != nullptr) outer_->inner_ns_ += end_ns - start_ns_;
  observer_->on_phase(phase_, start_ns_, end_ns, end_ns - start_ns_ - inner_ns_);
}

void add_range_marker(RangeMarker* marker) {
  const std::size_t index = marker_count.load();
  if (index == kMaxMarkers) throw Error("add_range_marker: there are four already");
  markers[index].store(marker, std::memory_order_relaxed);
  marker_count.store(index + 1, std::memory_order_release);
  detail::range_listeners.fetch_add(1, std::memory_order_relaxed);
}

std::size_t detail::push_range(const char* name) {
  const std::size_t count = marker_count.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) markers[i].load(std::memory_order_relaxed)->push(name);
  return count;
}

void detail::pop_range(std::size_t count) {
  while (count-- > 0) markers[count].load(std::memory_order_relaxed)->pop();
}

}  // namespace metal_candle
