// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How soon a process that is started is of use: what is paid once, by ours and by peers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/harness.h"
#include "bench/peer.h"

namespace metal_candle::bench {

/// A process to be started, anew each time.
struct Starter {
  /// Returns when it is ready: the library and the model, if there is one, are loaded. Throws
  /// Error.
  std::function<std::unique_ptr<Peer>()> start;
  /// Has it compute its first result, and returns the seconds of that. Throws Error.
  std::function<double(Peer&)> compute;
};

/// From the question to the answer.
[[nodiscard]] std::function<double(Peer&)> asking(const std::string& command);

/// This program with these arguments, of which `--first` makes it call answer_start.
[[nodiscard]] std::function<std::unique_ptr<Peer>()> starting_self(
    const std::vector<std::string>& arguments);

/// Says that this process is ready, and answers each line of standard input with what `compute`
/// returns.
void answer_start(const Contestant& compute);

/// Seconds, one a starter: from the start to being ready, of the first result, and both. Medians,
/// as they take turns; NaN for one that fails, with a note on standard error. What takes longer
/// than ten seconds is started once.
struct StartTimes {
  std::vector<double> ready, first, total;
};
/// The first of the starters is ours, and must not fail.
[[nodiscard]] StartTimes measure_starts(const std::vector<Starter>& starters);

/// A row of them.
struct StartRow {
  std::string name;
  std::vector<double> StartTimes::*seconds;
};

}  // namespace metal_candle::bench
