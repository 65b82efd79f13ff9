// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Indirect command buffers of command lists that come again: encoded once for a structure, executed
// as one, with arguments copied anew where buffers have moved.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

#include "metal_candle/backend/metal/command_list.h"

namespace metal_candle::backend::metal {

/// An encoded list, and the arguments that it was last made to read.
class IndirectPlan {
 public:
  /// Throws OutOfMemoryError.
  IndirectPlan(MetalDevice& device, const CommandList& list);
  ~IndirectPlan();
  IndirectPlan(const IndirectPlan&) = delete;
  IndirectPlan& operator=(const IndirectPlan&) = delete;

  [[nodiscard]] const CommandList& list() const { return list_; }
  /// Makes it run `list`, which has the same structure, while the device does not.
  void point_at(const CommandList& list);
  void execute(MTL::ComputeCommandEncoder& encoder) const;

  bool busy = false;  // On the device, or on its way there.

 private:
  MetalDevice& device_;
  CommandList list_;
  NS::SharedPtr<MTL::Buffer> arguments_;
  NS::SharedPtr<MTL::IndirectCommandBuffer> commands_;
};

struct ReplayStatistics {
  std::uint64_t made = 0;      // Encoded once.
  std::uint64_t replayed = 0;  // Executed.
  std::uint64_t direct = 0;    // Lists encoded command by command.
};

/// Of one queue. Not thread safe. Bounded, the least recently used plan out first.
class IndirectCache {
 public:
  explicit IndirectCache(MetalDevice& device) : device_(device) {}
  /// The plan that runs the list, already pointed at it and busy; null where the list is to be
  /// encoded command by command: new, too long, or one whose plans are all on the device.
  IndirectPlan* find(const CommandList& list);
  [[nodiscard]] const ReplayStatistics& statistics() const { return statistics_; }

 private:
  static constexpr std::size_t kPlansOfStructure = 3;
  static constexpr std::size_t kCapacity = 256;
  static constexpr std::size_t kMaxSeen = 16384;
  // Encoding few commands is quicker than looking for a plan.
  static constexpr std::size_t kLeastCommands = 4;
  static constexpr std::size_t kMostCommands = 16384;  // Of an indirect command buffer.

  using Entry = std::unique_ptr<IndirectPlan>;
  void evict();

  MetalDevice& device_;
  std::list<Entry> plans_;  // Most recently used first.
  std::unordered_multimap<std::uint64_t, std::list<Entry>::iterator> by_structure_;
  std::unordered_map<std::uint64_t, std::uint32_t> seen_;
  ReplayStatistics statistics_;
};

}  // namespace metal_candle::backend::metal
