// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See graph_cache.h.
#include "metal_candle/backend/cuda/graph_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::cuda {
namespace {

CUDA_KERNEL_NODE_PARAMS kernel_parameters(const CommandList& list, const Command& command,
                                          void** argument) {
  *argument = const_cast<std::byte*>(list.arguments_of(command));
  CUDA_KERNEL_NODE_PARAMS parameters{};
  parameters.func = static_cast<const CudaFunction*>(command.what)->handle();
  parameters.gridDimX = command.grid.x;
  parameters.gridDimY = command.grid.y;
  parameters.gridDimZ = command.grid.z;
  parameters.blockDimX = command.threads;
  parameters.blockDimY = 1;
  parameters.blockDimZ = 1;
  parameters.sharedMemBytes = command.dynamic_group_bytes;
  parameters.kernelParams = argument;
  return parameters;
}

CUDA_MEMSET_NODE_PARAMS memset_parameters(const CommandList& list, const Command& command) {
  ZeroArguments zero;
  std::memcpy(&zero, list.arguments_of(command), sizeof(zero));
  CUDA_MEMSET_NODE_PARAMS parameters{};
  parameters.dst = reinterpret_cast<CUdeviceptr>(zero.address);
  parameters.elementSize = 1;
  parameters.width = zero.bytes;
  parameters.height = 1;
  return parameters;
}

// What a library puts on a stream, as a graph.
class Captured {
 public:
  Captured(const CommandList& list, const Command& command, CUstream stream) {
    check(driver().cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED),
          "cuStreamBeginCapture");
    try {
      list.launch(command, stream);
    } catch (...) {
      driver().cuStreamEndCapture(stream, &graph_);
      if (graph_ != nullptr) driver().cuGraphDestroy(graph_);
      throw;
    }
    check(driver().cuStreamEndCapture(stream, &graph_), "cuStreamEndCapture");
  }
  ~Captured() { driver().cuGraphDestroy(graph_); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  [[nodiscard]] CUgraph graph() const { return graph_; }

 private:
  CUgraph graph_ = nullptr;
};

CUcontext current_context() {
  CUcontext context = nullptr;
  check(driver().cuCtxGetCurrent(&context), "cuCtxGetCurrent");
  return context;
}

}  // namespace

// Delegating, so that what was made is destroyed if the rest cannot be.
CommandGraph::CommandGraph(const CommandList& list, CUstream stream) : CommandGraph(list) {
  check(driver().cuGraphCreate(&graph_, 0), "cuGraphCreate");
  std::vector<CUgraphNode> before;  // What the group at hand waits for.
  std::vector<CUgraphNode> group;
  std::uint32_t number = 0;
  const std::vector<Command>& commands = list_.commands();
  for (auto it = commands.begin(); it != commands.end(); ++it) {
    const Command& command = *it;
    if (command.group != number && !group.empty()) {
      const auto end = std::find_if(it, commands.end(),
                                    [&](const Command& c) { return c.group != command.group; });
      before = std::exchange(group, {});
      join(before, static_cast<std::size_t>(end - it));
    }
    number = command.group;
    group.push_back(add_node(command, before, stream));
    nodes_.push_back(group.back());
  }
  check(driver().cuGraphInstantiate(&executable_, graph_, 0), "cuGraphInstantiate");
}

// One node in the place of many, if the next group has many too.
void CommandGraph::join(std::vector<CUgraphNode>& nodes, std::size_t next) const {
  constexpr std::size_t kManyEdges = 16;
  if (nodes.size() == 1 || nodes.size() * next <= kManyEdges) return;
  CUgraphNode node = nullptr;
  check(driver().cuGraphAddEmptyNode(&node, graph_, nodes.data(), nodes.size()),
        "cuGraphAddEmptyNode");
  nodes.assign(1, node);
}

CUgraphNode CommandGraph::add_node(const Command& command, std::span<const CUgraphNode> before,
                                   CUstream stream) const {
  CUgraphNode node = nullptr;
  switch (command.kind) {
    case Command::Kind::kDispatch: {
      void* argument = nullptr;
      const CUDA_KERNEL_NODE_PARAMS parameters = kernel_parameters(list_, command, &argument);
      check(driver().cuGraphAddKernelNode(&node, graph_, before.data(), before.size(), &parameters),
            "cuGraphAddKernelNode");
      break;
    }
    case Command::Kind::kZero: {
      const CUDA_MEMSET_NODE_PARAMS parameters = memset_parameters(list_, command);
      check(driver().cuGraphAddMemsetNode(&node, graph_, before.data(), before.size(), &parameters,
                                          current_context()),
            "cuGraphAddMemsetNode");
      break;
    }
    case Command::Kind::kMatmul: {
      const Captured captured(list_, command, stream);
      check(driver().cuGraphAddChildGraphNode(&node, graph_, before.data(), before.size(),
                                              captured.graph()),
            "cuGraphAddChildGraphNode");
      break;
    }
  }
  return node;
}

CommandGraph::~CommandGraph() {
  if (executable_ != nullptr) driver().cuGraphExecDestroy(executable_);
  if (graph_ != nullptr) driver().cuGraphDestroy(graph_);
}

bool CommandGraph::points_at(const CommandList& list) const {
  const auto ours = list_.arguments();
  const auto theirs = list.arguments();
  return ours.size() == theirs.size() && std::memcmp(ours.data(), theirs.data(), ours.size()) == 0;
}

std::size_t CommandGraph::point_at(const CommandList& list, CUstream stream) {
  std::size_t changed = 0;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const Command& command = list.commands()[i];
    if (std::memcmp(list.arguments_of(command), list_.arguments_of(list_.commands()[i]),
                    command.argument_bytes) == 0) {
      continue;
    }
    ++changed;
    switch (command.kind) {
      case Command::Kind::kDispatch: {
        void* argument = nullptr;
        const CUDA_KERNEL_NODE_PARAMS parameters = kernel_parameters(list, command, &argument);
        check(driver().cuGraphExecKernelNodeSetParams(executable_, nodes_[i], &parameters),
              "cuGraphExecKernelNodeSetParams");
        break;
      }
      case Command::Kind::kZero: {
        const CUDA_MEMSET_NODE_PARAMS parameters = memset_parameters(list, command);
        check(driver().cuGraphExecMemsetNodeSetParams(executable_, nodes_[i], &parameters,
                                                      current_context()),
              "cuGraphExecMemsetNodeSetParams");
        break;
      }
      case Command::Kind::kMatmul: {
        const Captured captured(list, command, stream);
        check(driver().cuGraphExecChildGraphNodeSetParams(executable_, nodes_[i], captured.graph()),
              "cuGraphExecChildGraphNodeSetParams");
        break;
      }
    }
  }
  list_ = list;
  return changed;
}

void CommandGraph::launch(CUstream stream) const {
  check(driver().cuGraphLaunch(executable_, stream), "cuGraphLaunch");
}

// By a graph that points at what the list does, or that can be made to; the former only while there
// are fewer than `most` of the structure.
bool GraphCache::replay(const CommandList& list, std::size_t most, CUstream stream,
                        CUstream capture_stream) {
  std::size_t count = 0;
  std::list<Entry>::iterator oldest;
  auto [it, end] = by_structure_.equal_range(list.structure_hash());
  for (; it != end; ++it) {
    const std::list<Entry>::iterator graph = it->second;
    if (!(*graph)->list().same_structure(list)) continue;
    // Of one structure the one made first stands in for the least recently used.
    if (count++ == 0) oldest = graph;
    if (!(*graph)->points_at(list)) continue;
    graphs_.splice(graphs_.begin(), graphs_, graph);
    (*graph)->launch(stream);
    ++statistics_.launched;
    return true;
  }
  if (count < most) return false;
  graphs_.splice(graphs_.begin(), graphs_, oldest);
  statistics_.nodes_repointed += (*oldest)->point_at(list, capture_stream);
  ++statistics_.repointed;
  (*oldest)->launch(stream);
  ++statistics_.launched;
  return true;
}

// How often before.
std::uint32_t GraphCache::times_seen(std::uint64_t structure) {
  if (seen_.size() > kMaxSeen) seen_.clear();
  return seen_[structure]++;
}

// And launches it. False where the driver has no memory for another graph: others may have taken
// the device's.
bool GraphCache::make(const CommandList& list, CUstream stream, CUstream capture_stream) {
  try {
    graphs_.push_front(std::make_unique<CommandGraph>(list, capture_stream));
  } catch (const OutOfMemoryError&) {
    return false;
  }
  by_structure_.emplace(list.structure_hash(), graphs_.begin());
  ++statistics_.made;
  graphs_.front()->launch(stream);
  ++statistics_.launched;
  if (graphs_.size() <= kCapacity) return true;
  const auto last = std::prev(graphs_.end());
  auto [old, old_end] = by_structure_.equal_range((*last)->list().structure_hash());
  while (old != old_end && old->second != last) ++old;
  by_structure_.erase(old);
  graphs_.erase(last);
  return true;
}

void GraphCache::run(const CommandList& list, CUstream stream, CUstream capture_stream) {
  if (replay(list, kGraphsOfStructure, stream, capture_stream)) return;
  if (times_seen(list.structure_hash()) > 0 && make(list, stream, capture_stream)) return;
  for (const Command& command : list.commands()) list.launch(command, stream);
  ++statistics_.direct;
}

bool GraphCache::run_together(const CommandList& lists, CUstream stream, CUstream capture_stream) {
  return replay(lists, 1, stream, capture_stream) ||
         (times_seen(lists.structure_hash()) >= kTimesBeforeTogether &&
          make(lists, stream, capture_stream));
}

}  // namespace metal_candle::backend::cuda
