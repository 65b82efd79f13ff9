// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Several adapters over one base model.
#pragma once

#include <map>
#include <shared_mutex>
#include <string>
#include <vector>

#include "metal_candle/lora/lora.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle {

/// Adapters by name, over weights that are in memory once. Switching is a look-up: what model()
/// gives shares all weights. Thread safe; a model that was handed out goes on working when its
/// adapter is replaced or removed.
class AdapterRegistry {
 public:
  explicit AdapterRegistry(Decoder base) : base_(std::move(base)) {}

  /// Adds an adapter, or replaces the one of that name. Its weights are cast to the model's dtype
  /// once, here. Throws Error if the name is empty, which is the base's, and what with_adapter()
  /// throws, naming the adapter, if it does not fit the model.
  void add(const std::string& name, const Adapter& adapter);
  /// Throws Error naming the adapters that there are, if it is not one of them.
  void remove(const std::string& name);
  /// In lexicographic order.
  [[nodiscard]] std::vector<std::string> names() const;
  /// The base with that adapter, or alone if the name is empty. Throws as remove() does.
  [[nodiscard]] Decoder model(const std::string& name = {}) const;

 private:
  [[noreturn]] void throw_unknown(const std::string& name) const;  // With the lock held.

  const Decoder base_;
  mutable std::shared_mutex mutex_;  // Guards models_.
  std::map<std::string, Decoder> models_;
};

}  // namespace metal_candle
