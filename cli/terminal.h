// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the command prints: a line that is redrawn on a terminal, numbers for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace metal_candle::cli {

/// "1,234,567".
[[nodiscard]] std::string with_commas(std::int64_t value);
/// "312 MB", "1.25 GB" (powers of ten).
[[nodiscard]] std::string readable_bytes(std::size_t bytes);
/// "0:41", "1:02:03".
[[nodiscard]] std::string readable_duration(double seconds);

/// The last line of a terminal, redrawn in place. Where standard output is no terminal, it prints
/// nothing: whoever uses it prints plain lines there.
class StatusLine {
 public:
  StatusLine();
  /// Leaves the cursor at the start of an empty line.
  ~StatusLine();
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  [[nodiscard]] bool interactive() const { return interactive_; }
  /// "label ━━━━━───── text", cut to the terminal's width. `done` is in [0, 1].
  void show(const std::string& label, double done, const std::string& text);
  /// Prints a line above it.
  void print(const std::string& line);
  void clear();

 private:
  bool interactive_;
  std::string shown_;
};

}  // namespace metal_candle::cli
