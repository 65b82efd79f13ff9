// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Text that streams until a stop string comes, none of which is ever shown.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace metal_candle {

/// Holds back what may be the beginning of a stop string until it is known not to be. Not thread
/// safe.
class StopText {
 public:
  /// Empty strings stop nothing.
  explicit StopText(std::vector<std::string> stops);

  /// The text that is certain now. Once stopped, nothing.
  [[nodiscard]] std::string push(std::string_view text);
  /// What was held back: the text ends here.
  [[nodiscard]] std::string finish();
  /// Whether a stop string came: push() has returned all that was before the one that was complete
  /// first.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;  // Begins a stop string, or is empty.
  bool stopped_ = false;
};

}  // namespace metal_candle
