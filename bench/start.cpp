// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See start.h.
#include "bench/start.h"

#include <cmath>
#include <cstdio>
#include <iostream>
#include <limits>
#include <utility>

#include "metal_candle/core/error.h"

namespace metal_candle::bench {
namespace {

constexpr int kStarts = 5;
constexpr double kPatienceSeconds = 10;

// What one starter took when it was last started.
struct Start {
  double ready = 0, first = 0;

  [[nodiscard]] double total() const { return ready + first; }
  void run(const Starter& starter) {
    // Neither what is slow nor what has failed.
    if (!(total() <= kPatienceSeconds)) return;
    try {
      const double begin = wall_seconds();
      const std::unique_ptr<Peer> process = starter.start();
      ready = wall_seconds() - begin;
      first = starter.compute(*process);
    } catch (const Error& error) {
      std::fputs((std::string(error.what()) + "\n").c_str(), stderr);
      ready = first = std::numeric_limits<double>::quiet_NaN();
    }
  }
};

}  // namespace

std::function<double(Peer&)> asking(const std::string& command) {
  return [command](Peer& process) {
    const double begin = wall_seconds();
    process.measure(command);
    return wall_seconds() - begin;
  };
}

std::function<std::unique_ptr<Peer>()> starting_self(const std::vector<std::string>& arguments) {
  return [arguments] {
    std::string why;
    std::unique_ptr<Peer> process = Peer::start_self(arguments, why);
    if (!process) throw Error("bench: " + why);
    return process;
  };
}

void answer_start(const Contestant& compute) {
  std::puts("metal-candle ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::printf("%.9g\n", compute());
    std::fflush(stdout);
  }
}

StartTimes measure_starts(const std::vector<Starter>& starters) {
  std::vector<Contestant> contestants;
  for (const Starter& starter : starters) {
    const auto start = std::make_shared<Start>();
    contestants.emplace_back([start, starter] {
      start->run(starter);
      return start->ready;
    });
    contestants.emplace_back([start] { return start->first; });
    contestants.emplace_back([start] { return start->total(); });
  }
  const std::vector<double> seconds = compete(contestants, kStarts);
  StartTimes times;
  for (std::size_t i = 0; i < seconds.size(); i += 3) {
    times.ready.push_back(seconds[i]);
    times.first.push_back(seconds[i + 1]);
    times.total.push_back(seconds[i + 2]);
  }
  if (std::isnan(times.total[0])) throw Error("bench: this program could not be started");
  return times;
}

}  // namespace metal_candle::bench
