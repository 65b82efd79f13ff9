// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Another framework as a contestant: a Python process that times a named case when it is told to.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/harness.h"

namespace metal_candle::bench {

class Peer {
 public:
  /// Starts `python3` (METAL_CANDLE_PYTHON if set) on a text of peer_scripts.h, with as many
  /// threads as our kernels use, the name of a device and that of the clock as its arguments. Null,
  /// with the reason in `why`, if the script does not answer that it has its framework: `framework`
  /// and the version.
  static std::unique_ptr<Peer> start(const std::string& script, const std::string& framework,
                                     std::string& why, const char* device = "cpu");
  /// Starts this program. It has to answer with "metal-candle" and something more.
  static std::unique_ptr<Peer> start_self(std::vector<std::string> arguments, std::string& why);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  [[nodiscard]] const std::string& version() const { return version_; }
  /// What the script answers to a line: seconds, mostly. Throws Error if it answers no number.
  double measure(const std::string& line);
  /// Times a case. Each call is one batch. NaN, with a note on standard error, from where the peer
  /// cannot do it on: others go on without.
  [[nodiscard]] Contestant contestant(const std::string& case_name);

 private:
  Peer() = default;
  static std::unique_ptr<Peer> start_process(std::vector<std::string> arguments,
                                             const std::string& framework, std::string& why);
  std::string ask(const std::string& line);

  int pid_ = -1;
  int to_peer_ = -1;
  int from_peer_ = -1;
  std::string framework_;
  std::string buffered_;
  std::string version_;
};

}  // namespace metal_candle::bench
