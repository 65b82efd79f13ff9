// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// PyTorch as a contestant: a Python process that times a named case when it is told to.
#pragma once

#include <memory>
#include <string>

#include "bench/harness.h"

namespace metal_candle::bench {

class TorchPeer {
 public:
  /// Starts `python3` (METAL_CANDLE_PYTHON if set) on one of peer_scripts.h, with as many threads
  /// as our kernels use and the name of a device as its arguments. Null, with the reason in `why`,
  /// if it has no PyTorch.
  static std::unique_ptr<TorchPeer> start(const char* script, std::string& why,
                                          const char* device = "cpu");
  ~TorchPeer();
  TorchPeer(const TorchPeer&) = delete;
  TorchPeer& operator=(const TorchPeer&) = delete;

  [[nodiscard]] const std::string& version() const { return version_; }
  /// What the script answers to a line: seconds, mostly. Throws Error if it answers no number.
  double measure(const std::string& line);
  /// Times a case. Each call is one batch.
  [[nodiscard]] Contestant contestant(const std::string& case_name);

 private:
  TorchPeer() = default;
  std::string ask(const std::string& line);

  int pid_ = -1;
  int to_peer_ = -1;
  int from_peer_ = -1;
  std::string buffered_;
  std::string version_;
};

}  // namespace metal_candle::bench
