// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels that are generated: from text to what the driver loads, by NVRTC, once a user.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace metal_candle::backend::cuda {

/// The text of one kernel, which comes after the dialect's.
struct KernelText {
  std::string name;
  std::string_view macro;  // Defined before all of it.
  std::string source;
};

/// For one architecture. What it makes is kept in the user's cache folder. Without contraction of
/// products and sums, so that kernels give what elements.cu gives. Thread safe.
class KernelCompiler {
 public:
  /// For compute capability 9.0: 90.
  explicit KernelCompiler(int architecture);
  /// What was made of that text before, by this NVRTC; empty if nothing was.
  [[nodiscard]] std::vector<char> find(const KernelText& text) const;
  /// Throws DeviceError, with the compiler's words, if the text does not compile.
  [[nodiscard]] std::vector<char> compile(const KernelText& text) const;
  /// Of NVRTC, as CUDA_VERSION is: 13000 for 13.0.
  [[nodiscard]] int version() const { return version_; }

 private:
  std::vector<std::string> options_;
  int version_ = 0;
  std::string made_with_;  // A line of version and options.
};

}  // namespace metal_candle::backend::cuda
