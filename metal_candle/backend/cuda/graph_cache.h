// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// CUDA graphs of command lists that come again: instantiated once for a structure, launched as one,
// and re-pointed where buffers have moved.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "metal_candle/backend/cuda/command_list.h"

namespace metal_candle::backend::cuda {

/// An instantiated graph and the commands that it was last made to run.
class CommandGraph {
 public:
  /// `stream` is used for capturing, and nothing runs on it.
  CommandGraph(const CommandList& list, CUstream stream);
  ~CommandGraph();
  CommandGraph(const CommandGraph&) = delete;
  CommandGraph& operator=(const CommandGraph&) = delete;

  [[nodiscard]] const CommandList& list() const { return list_; }
  [[nodiscard]] bool points_at(const CommandList& list) const;
  /// Makes it run `list`, which has the same structure. Returns how many nodes had to change.
  std::size_t point_at(const CommandList& list, CUstream stream);
  void launch(CUstream stream) const;

 private:
  explicit CommandGraph(const CommandList& list) : list_(list) {}
  void join(std::vector<CUgraphNode>& nodes, std::size_t next) const;
  CUgraphNode add_node(const Command& command, std::span<const CUgraphNode> before,
                       CUstream stream) const;

  CommandList list_;
  CUgraph graph_ = nullptr;
  CUgraphExec executable_ = nullptr;
  std::vector<CUgraphNode> nodes_;  // By command.
};

struct GraphStatistics {
  std::uint64_t made = 0;      // Instantiated.
  std::uint64_t launched = 0;  // As they were, or re-pointed.
  std::uint64_t repointed = 0;
  std::uint64_t nodes_repointed = 0;
  // Lists launched command by command: new ones, and those for whose graph there was no memory.
  std::uint64_t direct = 0;
};

/// Of one queue. Not thread safe. Bounded, the least recently used graph out first.
class GraphCache {
 public:
  /// Puts the commands on the stream: one by one the first time, or while the driver has no memory
  /// for a graph; else as a graph. Buffers alternate between a few places in a loop, so that a few
  /// graphs of a structure are kept.
  void run(const CommandList& list, CUstream stream, CUstream capture_stream);
  /// The same for several lists, one after another, in one: but only if they have followed each
  /// other before, several times. Else it does nothing and returns false.
  bool run_together(const CommandList& lists, CUstream stream, CUstream capture_stream);
  [[nodiscard]] const GraphStatistics& statistics() const { return statistics_; }

 private:
  static constexpr std::size_t kGraphsOfStructure = 3;
  static constexpr std::uint32_t kTimesBeforeTogether = 4;
  static constexpr std::size_t kCapacity = 512;
  static constexpr std::size_t kMaxSeen = 16384;

  using Entry = std::unique_ptr<CommandGraph>;
  bool replay(const CommandList& list, std::size_t most, CUstream stream, CUstream capture_stream);
  bool make(const CommandList& list, CUstream stream, CUstream capture_stream);
  std::uint32_t times_seen(std::uint64_t structure);

  std::list<Entry> graphs_;  // Most recently used first.
  std::unordered_multimap<std::uint64_t, std::list<Entry>::iterator> by_structure_;
  std::unordered_map<std::uint64_t, std::uint32_t> seen_;
  GraphStatistics statistics_;
};

}  // namespace metal_candle::backend::cuda
