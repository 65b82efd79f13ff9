// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tracing, and comparing a trace with a graph. This runs on every evaluation, so its scratch memory
// is kept from one to the next.
#include "metal_candle/graph/trace.h"

#include <bit>
#include <utility>

namespace metal_candle {
namespace {

// A map from node to entry number: open addressing, emptied by forgetting (a generation number),
// because clearing or allocating a table for each evaluation would cost more than a small trace
// does.
class NodeMap {
 public:
  static constexpr std::int32_t kAbsent = -1;

  void reset() {
    if (slots_.empty()) slots_.resize(256);
    count_ = 0;
    if (++generation_ == 0) {
      for (Slot& slot : slots_) slot.generation = 0;
      generation_ = 1;
    }
  }
  [[nodiscard]] std::int32_t find(const Node* node) const {
    for (std::size_t i = start(node);; i = (i + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[i];
      if (slot.generation != generation_) return kAbsent;
      if (slot.node == node) return slot.value;
    }
  }
  void insert(const Node* node, std::int32_t value) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    place(node, value);
    ++count_;
  }

 private:
  struct Slot {
    const Node* node = nullptr;
    std::int32_t value = 0;
    std::uint32_t generation = 0;
  };
  [[nodiscard]] std::size_t start(const Node* node) const {
    const auto bits = reinterpret_cast<std::uintptr_t>(node);
    return static_cast<std::size_t>((bits * 0x9E3779B97F4A7C15ull) >> 20) & (slots_.size() - 1);
  }
  void place(const Node* node, std::int32_t value) {
    std::size_t i = start(node);
    while (slots_[i].generation == generation_) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {node, value, generation_};
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.generation == generation_) place(slot.node, slot.value);
    }
  }

  std::vector<Slot> slots_;
  std::size_t count_ = 0;
  std::uint32_t generation_ = 0;
};

struct Frame {
  const Node* node;
  std::uint32_t next_input;
};

// What the graph sees through: the node stands for one of its inputs.
const Node* alias_target(const Node* node) {
  if (std::holds_alternative<op::Identity>(node->operation()) ||
      std::holds_alternative<op::StopGradient>(node->operation())) {
    return node->inputs()[0];
  }
  return nullptr;
}

std::uint64_t mix(std::uint64_t h, std::uint64_t v) {
  h ^= v;
  h *= 0x9E3779B97F4A7C15ull;
  return h ^ (h >> 29);
}

std::uint64_t mix_dims(std::uint64_t h, const Dims& dims) {
  for (const std::int64_t d : dims) h = mix(h, static_cast<std::uint64_t>(d));
  return mix(h, dims.size());
}

TensorLayout leaf_layout(const Node& node) {
  return {node.spec().shape, node.value().strides, node.spec().dtype};
}

}  // namespace

// What the calling thread keeps. No trace is begun while another is being made on the thread, but
// several may be alive: the lists are with one of them.
struct Trace::Scratch {
  NodeMap map;
  std::vector<Frame> stack;
  Lists lists;
};

Trace::Scratch& Trace::scratch() {
  thread_local Scratch scratch;
  return scratch;
}

void Trace::Lists::clear() {
  entries.clear();
  edges.clear();
  outputs.clear();
  leaves.clear();
  aliases.clear();
  pinned.clear();
}

Trace::Trace(std::span<Node* const> outputs) {
  Scratch& mine = scratch();
  std::swap(lists_, mine.lists);
  mine.map.reset();
  for (Node* output : outputs) {
    visit(mine, output);
    lists_.outputs.push_back(mine.map.find(output));
  }
}

Trace::~Trace() {
  // In reverse: a node is kept alive by the pinned expression through which it was reached, and
  // that one was pinned before it.
  for (auto it = lists_.pinned.rbegin(); it != lists_.pinned.rend(); ++it) (*it)->unpin();
  lists_.clear();
  std::swap(lists_, scratch().lists);
}

void Trace::visit(Scratch& scratch, Node* root) {
  NodeMap& map = scratch.map;
  std::vector<Frame>& stack = scratch.stack;
  // Enters a node: leaves and known nodes are done with at once.
  const auto enter = [&](const Node* node) {
    if (map.find(node) != NodeMap::kAbsent) return;
    if (!node->resolved() && node->pin()) {
      lists_.pinned.push_back(node);
      stack.push_back({node, 0});
      return;
    }
    // Resolved, now or between the two questions above.
    map.insert(node, static_cast<std::int32_t>(lists_.entries.size()));
    lists_.entries.push_back({node, static_cast<std::int32_t>(lists_.edges.size()),
                              static_cast<std::int32_t>(lists_.leaves.size())});
    lists_.leaves.push_back(node);
  };
  const auto insert_alias = [&](const Node* node, std::int32_t entry) {
    map.insert(node, entry);
    lists_.aliases.push_back({node, entry});
  };
  enter(root);
  while (!stack.empty()) {
    Frame& frame = stack.back();
    const Node* node = frame.node;
    if (frame.next_input == 0 && map.find(node) != NodeMap::kAbsent) {
      stack.pop_back();
      continue;
    }
    const auto inputs = node->inputs();
    // An output of a custom-gradient wrapper is the input of that number; its other inputs are for
    // the gradient only.
    if (const auto* pick = std::get_if<op::Pick>(&node->operation())) {
      const Node* tuple = inputs[0];
      if (!tuple->resolved() && tuple->pin()) {
        lists_.pinned.push_back(tuple);
        if (std::holds_alternative<op::CustomGradient>(tuple->operation())) {
          const Node* target = tuple->inputs()[static_cast<std::size_t>(pick->index)];
          const std::int32_t found = map.find(target);
          if (found != NodeMap::kAbsent) {
            insert_alias(node, found);
            stack.pop_back();
          } else {
            frame.next_input = 1;
            enter(target);
          }
          continue;
        }
      }
    }
    if (frame.next_input < inputs.size()) {
      const Node* input = inputs[frame.next_input++];
      enter(input);
      continue;
    }
    if (const Node* target = alias_target(node)) {
      insert_alias(node, map.find(target));
    } else {
      map.insert(node, static_cast<std::int32_t>(lists_.entries.size()));
      lists_.entries.push_back({node, static_cast<std::int32_t>(lists_.edges.size()), -1});
      for (const Node* input : inputs) lists_.edges.push_back(map.find(input));
    }
    stack.pop_back();
  }
}

std::uint64_t Trace::hash() const {
  std::uint64_t h = lists_.entries.size();
  for (const Entry& entry : lists_.entries) {
    const TensorSpec& spec = entry.node->spec();
    h = mix(h, static_cast<std::uint64_t>(spec.dtype) +
                   16 * static_cast<std::uint64_t>(entry.first_edge));
    h = mix_dims(h, spec.shape);
    h = mix(h, entry.leaf >= 0 ? 0 : metal_candle::hash(entry.node->operation()));
  }
  for (const Node* leaf : lists_.leaves) h = mix_dims(h, leaf->value().strides);
  for (const std::int32_t edge : lists_.edges) h = mix(h, static_cast<std::uint64_t>(edge));
  for (const std::int32_t output : lists_.outputs) h = mix(h, static_cast<std::uint64_t>(output));
  return h;
}

bool Trace::matches(const ComputationGraph& graph) const {
  if (graph.size() != static_cast<NodeId>(lists_.entries.size())) return false;
  if (graph.outputs().size() != lists_.outputs.size() ||
      graph.inputs().size() != lists_.leaves.size())
    return false;
  if (!std::equal(lists_.outputs.begin(), lists_.outputs.end(), graph.outputs().begin()))
    return false;
  for (std::size_t i = 0; i < lists_.entries.size(); ++i) {
    const Entry& entry = lists_.entries[i];
    const GraphNode& other = graph.node(static_cast<NodeId>(i));
    if (entry.leaf != other.input_index) return false;
    if (entry.leaf >= 0) {
      if (leaf_layout(*entry.node) != graph.input_layouts()[static_cast<std::size_t>(entry.leaf)])
        return false;
      continue;
    }
    const auto inputs = edges(i);
    if (!std::equal(inputs.begin(), inputs.end(), other.inputs.begin(), other.inputs.end()))
      return false;
    if (!(entry.node->spec() == other.spec)) return false;
    if (!(entry.node->operation() == other.operation)) return false;
  }
  return true;
}

ComputationGraph Trace::to_graph() const {
  ComputationGraph graph;
  std::vector<NodeId> inputs;
  for (std::size_t i = 0; i < lists_.entries.size(); ++i) {
    const Entry& entry = lists_.entries[i];
    if (entry.leaf >= 0) {
      graph.add_input(leaf_layout(*entry.node));
      continue;
    }
    const auto numbers = edges(i);
    inputs.assign(numbers.begin(), numbers.end());
    graph.add(entry.node->operation(), inputs, entry.node->spec());
  }
  for (const std::int32_t output : lists_.outputs) graph.add_output(output);
  return graph;
}

ComputationGraph trace_graph(std::span<const Tensor> outputs) {
  std::vector<Node*> nodes;
  for (const Tensor& output : outputs) nodes.push_back(output.node().get());
  return Trace(nodes).to_graph();
}

}  // namespace metal_candle
