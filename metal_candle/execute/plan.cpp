// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Planning: one walk over the graph makes the steps and says which buffer each value lives in; a
// second one places the intermediate buffers in the arena by their lifetimes.
#include "metal_candle/execute/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "metal_candle/core/error.h"
#include "metal_candle/core/gaps.h"
#include "metal_candle/execute/cost.h"
#include "metal_candle/execute/layouts.h"
#include "metal_candle/execute/views.h"
#include "metal_candle/execute/waves.h"
#include "metal_candle/graph/shape_rules.h"

namespace metal_candle {
namespace {

// A block of memory that the plan decides about: an intermediate, a graph output, or scratch.
struct Block {
  std::size_t bytes = 0;
  std::int32_t first_step = 0;
  std::int32_t last_step = 0;
  std::int32_t output_buffer = -1;  // If it outlives the plan.
  std::size_t arena_offset = 0;
};

// Where a value is: in a leaf or in a block.
struct Location {
  std::int32_t leaf = -1;
  std::int32_t block = -1;
  std::int64_t offset = 0;  // Bytes.
  TensorLayout layout;

  [[nodiscard]] bool same_memory(const Location& other) const {
    return leaf == other.leaf && block == other.block;
  }
};

class Planner {
 public:
  Planner(const ComputationGraph& graph, const backend::Backend& backend)
      : graph_(graph), backend_(backend) {}

  Plan run() {
    locations_.resize(static_cast<std::size_t>(graph_.size()));
    copies_.resize(static_cast<std::size_t>(graph_.size()));
    count_uses();
    for (NodeId id = 0; id < graph_.size(); ++id) place(id);
    for (const NodeId output : graph_.outputs()) place_output(output);
    assign_arena();
    find_donations();
    resolve_regions();
    if (backend_.wants_waves()) form_waves();
    return std::move(plan_);
  }

 private:
  struct PendingStep {
    std::vector<Location> inputs;
    std::vector<Location> outputs;
    std::int32_t scratch_block = -1;
    NodeId node;
    std::uint64_t kind = 0;  // Of the operation.
  };

  [[nodiscard]] std::int32_t current_step() const {
    return static_cast<std::int32_t>(steps_.size());
  }

  [[nodiscard]] std::size_t align(std::size_t bytes) const {
    const std::size_t unit = backend_.alignment();
    return (bytes + unit - 1) / unit * unit;
  }

  std::int32_t new_block(std::size_t bytes) {
    Block block;
    block.bytes = std::max<std::size_t>(bytes, 1);
    block.first_step = block.last_step = current_step();
    blocks_.push_back(block);
    return static_cast<std::int32_t>(blocks_.size() - 1);
  }

  // The last use of a value is not the last use of its memory: views prolong it. So what matters is
  // how many times each node will still be read, and a block dies with the last reader of anything
  // in it.
  void count_uses() {
    remaining_uses_.resize(static_cast<std::size_t>(graph_.size()));
    for (NodeId id = 0; id < graph_.size(); ++id) {
      remaining_uses_[static_cast<std::size_t>(id)] =
          static_cast<std::int32_t>(graph_.node(id).users.size()) + graph_.node(id).output_uses;
    }
  }

  // How many reads are still to come of all the nodes that live in a block.
  std::int32_t& block_uses(std::int32_t block) {
    if (static_cast<std::size_t>(block) >= block_uses_.size())
      block_uses_.resize(static_cast<std::size_t>(block) + 1, 0);
    return block_uses_[static_cast<std::size_t>(block)];
  }

  void settle(NodeId id, std::vector<Location> where) {
    for (const Location& location : where) {
      if (location.block >= 0)
        block_uses(location.block) += remaining_uses_[static_cast<std::size_t>(id)];
    }
    locations_[static_cast<std::size_t>(id)] = std::move(where);
  }

  const Location& location(NodeId id) const { return locations_[static_cast<std::size_t>(id)][0]; }

  void touch(const Location& where) {
    if (where.block < 0) return;
    Block& block = blocks_[static_cast<std::size_t>(where.block)];
    block.last_step = std::max(block.last_step, current_step());
  }

  void consume(NodeId input) {
    for (const Location& where : locations_[static_cast<std::size_t>(input)]) {
      if (where.block >= 0) --block_uses(where.block);
    }
  }

  void place(NodeId id) {
    const GraphNode& node = graph_.node(id);
    if (node.is_input()) {
      Location where;
      where.leaf = node.input_index;
      where.layout = graph_.input_layouts()[static_cast<std::size_t>(node.input_index)];
      settle(id, {where});
      return;
    }
    if (const auto* pick = std::get_if<op::Pick>(&node.operation)) {
      const NodeId tuple = node.inputs[0];
      const Location where =
          locations_[static_cast<std::size_t>(tuple)][static_cast<std::size_t>(pick->index)];
      consume(tuple);
      settle(id, {where});
      return;
    }
    if (!node.inputs.empty()) {
      const Location& input = location(node.inputs[0]);
      if (const auto view = view_of(node.operation, input.layout, node.spec.shape)) {
        Location where = input;
        where.offset += view->offset * static_cast<std::int64_t>(size_of(input.layout.dtype));
        where.layout = view->layout;
        for (const NodeId edge : node.inputs) consume(edge);
        settle(id, {where});
        return;
      }
    }
    if (std::holds_alternative<op::Full>(node.operation) && node.output_uses == 0 &&
        num_elements(node.spec.shape) > 1) {
      place_broadcast_constant(id);
      return;
    }
    emit(id, node.operation, node.inputs);
  }

  // A constant tensor is one element seen through zero strides.
  void place_broadcast_constant(NodeId id) {
    const GraphNode& node = graph_.node(id);
    Location where;
    where.block = new_block(size_of(node.spec.dtype));
    where.layout = TensorLayout::contiguous({Shape{}, node.spec.dtype});
    add_step(id, node.operation, {}, {where}, {true});
    where.layout = {node.spec.shape, Strides(node.spec.shape.size(), 0), node.spec.dtype};
    settle(id, {where});
  }

  // The operand as the backend wants it: where it is, or a copy (made once for each node).
  Location operand(NodeId id, const Operation& user, int index) {
    const Location& where = location(id);
    if (satisfies(where.layout, backend_.input_layout(user, index))) return where;
    return contiguous_copy(id);
  }

  Location contiguous_copy(NodeId id) {
    std::optional<Location>& copy = copies_[static_cast<std::size_t>(id)];
    if (!copy) {
      const Location source = location(id);
      Location target;
      target.layout = TensorLayout::contiguous({source.layout.shape, source.layout.dtype});
      target.block = new_block(TensorSpec{source.layout.shape, source.layout.dtype}.bytes());
      // Readers of the copy are readers of the node, but which of them is the last is not known: it
      // is never overwritten in place.
      block_uses(target.block) += 1 << 20;
      add_step(id, op::Identity{}, {source}, {target}, {true});
      copy = target;
    }
    return *copy;
  }

  void emit(NodeId id, const Operation& operation, const std::vector<NodeId>& edges) {
    std::vector<Location> inputs;
    inputs.reserve(edges.size());
    for (std::size_t i = 0; i < edges.size(); ++i) {
      inputs.push_back(operand(edges[i], operation, static_cast<int>(i)));
    }
    for (const NodeId edge : edges) consume(edge);
    std::vector<Location> outputs;
    std::vector<char> needed;
    if (num_outputs(operation) == 1) {
      outputs.push_back(
          output_location(operation, output_layout(id, operation, 0), inputs, outputs));
      needed.push_back(1);
    } else {
      place_several(id, edges, inputs, outputs, needed);
    }
    add_step(id, operation, inputs, outputs, needed);
    settle(id, std::move(outputs));
  }

  void place_several(NodeId id, const std::vector<NodeId>& edges,
                     const std::vector<Location>& inputs, std::vector<Location>& outputs,
                     std::vector<char>& needed) {
    const GraphNode& node = graph_.node(id);
    std::vector<const TensorSpec*> specs;
    for (const NodeId edge : edges) specs.push_back(&graph_.node(edge).spec);
    const OutputSpecs all = infer_outputs(node.operation, specs, node.spec);
    needed.assign(static_cast<std::size_t>(all.count), 0);
    std::vector<TensorLayout> layouts;
    for (int i = 0; i < all.count; ++i) {
      layouts.push_back(TensorLayout::contiguous(all.specs[static_cast<std::size_t>(i)]));
    }
    for (const NodeId user : node.users) {
      const int i = std::get<op::Pick>(graph_.node(user).operation).index;
      const auto index = static_cast<std::size_t>(i);
      // Of two picks of one output neither knows the readers of the other.
      layouts[index] = needed[index] == 0 ? output_layout(user, node.operation, i)
                                          : TensorLayout::contiguous(all.specs[index]);
      needed[index] = 1;
    }
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      Location nowhere;
      nowhere.layout = layouts[i];
      outputs.push_back(
          needed[i] == 0 ? nowhere : output_location(node.operation, layouts[i], inputs, outputs));
    }
  }

  // Of `value`, output number `output` of the operation: as its readers would have it, if the
  // kernel can write that.
  [[nodiscard]] TensorLayout output_layout(NodeId value, const Operation& operation,
                                           int output) const {
    if (backend_.writes_rows_anywhere(operation, output)) {
      const auto wanted = layout_for_readers(graph_, value, backend_);
      if (wanted && satisfies(*wanted, backend::InputLayout::kDenseRows)) return *wanted;
    }
    return TensorLayout::contiguous(graph_.node(value).spec);
  }

  // Of the next output after `outputs`: a new block, or that of an input which nobody reads after
  // this step, which no other output has taken, and which the kernel can overwrite.
  Location output_location(const Operation& operation, const TensorLayout& layout,
                           const std::vector<Location>& inputs,
                           const std::vector<Location>& outputs) {
    const TensorSpec spec{layout.shape, layout.dtype};
    Location where;
    where.layout = layout;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].block < 0 || block_uses(inputs[i].block) != 0) continue;
      if (!can_overwrite(operation, where.layout, outputs.size(), inputs, i)) continue;
      const Block& block = blocks_[static_cast<std::size_t>(inputs[i].block)];
      if (block.bytes != std::max<std::size_t>(spec.bytes(), 1)) continue;
      if (std::any_of(outputs.begin(), outputs.end(),
                      [&](const Location& other) { return other.block == inputs[i].block; }))
        continue;
      where.block = inputs[i].block;
      return where;
    }
    where.block = new_block(spec.bytes());
    return where;
  }

  // Whether writing an output over input i is sound as far as layouts and the other inputs go.
  [[nodiscard]] bool can_overwrite(const Operation& operation, const TensorLayout& output,
                                   std::size_t output_index, const std::vector<Location>& inputs,
                                   std::size_t i) const {
    const Location& target = inputs[i];
    if (target.offset != 0 || !target.layout.is_contiguous()) return false;
    if (!output.is_contiguous()) return false;
    if (target.layout.shape != output.shape) return false;
    if (size_of(target.layout.dtype) != size_of(output.dtype)) return false;
    if (!backend_.can_run_in_place(operation, static_cast<int>(i), static_cast<int>(output_index)))
      return false;
    for (std::size_t j = 0; j < inputs.size(); ++j) {
      if (j == i || !inputs[j].same_memory(target)) continue;
      // The same values read twice, element by element, are overwritten only after both reads.
      if (!is_elementwise(operation) || inputs[j].offset != target.offset ||
          !(inputs[j].layout == target.layout))
        return false;
    }
    return true;
  }

  void add_step(NodeId id, const Operation& operation, const std::vector<Location>& inputs,
                const std::vector<Location>& outputs, const std::vector<char>& needed) {
    std::vector<TensorLayout> input_layouts;
    std::vector<TensorLayout> output_layouts;
    for (const Location& where : inputs) input_layouts.push_back(where.layout);
    for (const Location& where : outputs) output_layouts.push_back(where.layout);
    static_assert(sizeof(char) == sizeof(bool));
    const std::span<const bool> needed_flags(reinterpret_cast<const bool*>(needed.data()),
                                             needed.size());
    PlanStep step;
    step.kernel = backend_.make_kernel({operation, input_layouts, output_layouts, needed_flags});
    step.label = make_label(backend_.device(), operation, input_layouts, output_layouts);
    PendingStep pending{inputs, outputs, -1, id, hash(operation)};
    if (step.kernel->scratch_bytes() > 0)
      pending.scratch_block = new_block(step.kernel->scratch_bytes());
    for (const Location& where : inputs) touch(where);
    for (const Location& where : outputs) touch(where);
    plan_.steps.push_back(std::move(step));
    steps_.push_back(std::move(pending));
  }

  void place_output(NodeId id) {
    const Location* where = &location(id);
    if (where->block >= 0) {
      const Block& block = blocks_[static_cast<std::size_t>(where->block)];
      const std::size_t bytes = graph_.node(id).spec.bytes();
      // A small view must not keep a large block alive, nor a broadcast scalar pose as a whole
      // tensor.
      if (block.bytes > 2 * bytes + backend_.alignment() || has_zero_stride(where->layout)) {
        contiguous_copy(id);
        where = &*copies_[static_cast<std::size_t>(id)];
      }
      Block& kept = blocks_[static_cast<std::size_t>(where->block)];
      if (kept.output_buffer < 0) {
        kept.output_buffer = static_cast<std::int32_t>(plan_.output_buffers.size());
        plan_.output_buffers.push_back(kept.bytes);
      }
    }
    output_locations_.push_back(*where);
    plan_.outputs.push_back({{}, where->layout.strides});
  }

  static bool has_zero_stride(const TensorLayout& layout) {
    for (int axis = 0; axis < layout.shape.rank(); ++axis) {
      if (layout.shape[axis] > 1 && layout.strides[axis] == 0) return true;
    }
    return false;
  }

  // Best fit over the free gaps, in order of execution; neighbours merge when freed.
  void assign_arena();

  void find_donations() {
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      for (std::size_t output = 0; output < steps_[s].outputs.size(); ++output) {
        find_donation(s, output);
      }
    }
  }

  // A leaf that output number `output` of step s may be written over, where it outlives the plan.
  void find_donation(std::size_t s, std::size_t output) {
    const PendingStep& step = steps_[s];
    const Location& where = step.outputs[output];
    if (where.block < 0) return;
    const Block& block = blocks_[static_cast<std::size_t>(where.block)];
    if (block.output_buffer < 0 || block.first_step != static_cast<std::int32_t>(s)) return;
    const TensorSpec spec{where.layout.shape, where.layout.dtype};
    if (block.bytes != std::max<std::size_t>(spec.bytes(), 1)) return;
    const Operation& operation = graph_.node(step.node).operation;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      const Location& input = step.inputs[i];
      if (input.leaf < 0 || leaf_is_used_after(input.leaf, s) || leaf_is_donated(input.leaf))
        continue;
      if (!can_overwrite(operation, where.layout, output, step.inputs, i)) continue;
      plan_.donations.push_back({input.leaf, block.output_buffer});
      return;
    }
  }

  bool leaf_is_used_after(std::int32_t leaf, std::size_t step) {
    if (last_leaf_step_.empty()) {
      last_leaf_step_.assign(graph_.inputs().size(), -1);
      for (std::size_t s = 0; s < steps_.size(); ++s) {
        for (const Location& input : steps_[s].inputs) {
          if (input.leaf >= 0)
            last_leaf_step_[static_cast<std::size_t>(input.leaf)] = static_cast<std::int64_t>(s);
        }
      }
      for (const Location& output : output_locations_) {
        if (output.leaf >= 0) last_leaf_step_[static_cast<std::size_t>(output.leaf)] = INT64_MAX;
      }
    }
    return last_leaf_step_[static_cast<std::size_t>(leaf)] > static_cast<std::int64_t>(step);
  }

  [[nodiscard]] bool leaf_is_donated(std::int32_t leaf) const {
    return std::any_of(plan_.donations.begin(), plan_.donations.end(),
                       [&](const Donation& d) { return d.leaf == leaf; });
  }

  [[nodiscard]] PlanRegion region(const Location& where) const {
    if (where.leaf >= 0) return {PlanRegion::Kind::kLeaf, where.leaf, where.offset};
    if (where.block < 0) return {};
    const Block& block = blocks_[static_cast<std::size_t>(where.block)];
    if (block.output_buffer >= 0)
      return {PlanRegion::Kind::kOutput, block.output_buffer, where.offset};
    return {PlanRegion::Kind::kArena, 0,
            where.offset + static_cast<std::int64_t>(block.arena_offset)};
  }

  void resolve_regions() {
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      PlanStep& step = plan_.steps[s];
      for (const Location& where : steps_[s].inputs) step.inputs.push_back(region(where));
      for (const Location& where : steps_[s].outputs) step.outputs.push_back(region(where));
      if (steps_[s].scratch_block >= 0) {
        Location scratch;
        scratch.block = steps_[s].scratch_block;
        step.scratch = region(scratch);
      }
    }
    for (std::size_t i = 0; i < output_locations_.size(); ++i) {
      plan_.outputs[i].region = region(output_locations_[i]);
    }
  }

  // Where the steps of a wave are to run at once, small blocks are kept longer than they are
  // needed: memory that a step takes over from another one makes it wait for that. Tiny ones are
  // kept for good, while there are not too many.
  [[nodiscard]] std::size_t last_step_in_arena(const Block& block) {
    constexpr std::size_t kTiny = std::size_t{128} << 10;
    constexpr std::size_t kMostTiny = std::size_t{64} << 20;
    constexpr std::size_t kSmall = std::size_t{4} << 20;
    constexpr std::size_t kSteps = 24;
    const auto last = static_cast<std::size_t>(block.last_step);
    if (!backend_.wants_waves() || block.bytes > kSmall) return last;
    if (block.bytes <= kTiny && tiny_bytes_ + block.bytes <= kMostTiny) {
      tiny_bytes_ += block.bytes;
      return steps_.size();
    }
    return std::min(last + kSteps, steps_.size());
  }

  // Steps in the order of their waves. Memory has been given out in the old order, and what that
  // reuses counts as dependence, so none is needed beyond it.
  void form_waves();
  [[nodiscard]] std::vector<StepAccess> accesses() const;

  const ComputationGraph& graph_;
  const backend::Backend& backend_;
  Plan plan_;
  std::vector<PendingStep> steps_;
  std::vector<Block> blocks_;
  std::vector<std::vector<Location>> locations_;  // By node, by output.
  std::vector<std::optional<Location>> copies_;   // By node.
  std::vector<std::int32_t> remaining_uses_;      // By node.
  std::vector<std::int32_t> block_uses_;          // By block.
  std::vector<Location> output_locations_;
  std::vector<std::int64_t> last_leaf_step_;
  std::size_t tiny_bytes_ = 0;  // Kept for good.
};

void Planner::assign_arena() {
  std::vector<std::vector<std::int32_t>> starting(steps_.size() + 1);
  std::vector<std::vector<std::int32_t>> ending(steps_.size() + 1);
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    if (blocks_[b].output_buffer >= 0) continue;
    starting[static_cast<std::size_t>(blocks_[b].first_step)].push_back(
        static_cast<std::int32_t>(b));
    ending[last_step_in_arena(blocks_[b])].push_back(static_cast<std::int32_t>(b));
  }
  Gaps gaps;
  std::size_t top = 0;  // End of the arena so far.
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    // Large ones first: they are the hardest to place.
    std::sort(starting[s].begin(), starting[s].end(), [&](std::int32_t a, std::int32_t b) {
      return blocks_[static_cast<std::size_t>(a)].bytes >
             blocks_[static_cast<std::size_t>(b)].bytes;
    });
    for (const std::int32_t b : starting[s]) {
      Block& block = blocks_[static_cast<std::size_t>(b)];
      const std::size_t bytes = align(block.bytes);
      if (const std::optional<std::size_t> offset = gaps.take(bytes)) {
        block.arena_offset = *offset;
      } else {
        // Grow, into the last gap if that reaches the top.
        block.arena_offset = gaps.take_before(top).value_or(top);
        top = block.arena_offset + bytes;
        plan_.peak_step = static_cast<std::int32_t>(s);
      }
    }
    for (const std::int32_t b : ending[s]) {
      const Block& block = blocks_[static_cast<std::size_t>(b)];
      gaps.add(block.arena_offset, align(block.bytes));
    }
  }
  plan_.arena_bytes = top;
}

std::vector<StepAccess> Planner::accesses() const {
  // Space 0 is the arena; output buffer i is space 1 + i, and so is a leaf that it may overwrite.
  // Other leaves are only read.
  std::vector<std::int32_t> overwritten(graph_.inputs().size(), -1);  // By which output buffer.
  for (const Donation& donation : plan_.donations) {
    overwritten[static_cast<std::size_t>(donation.leaf)] = donation.output_buffer;
  }
  const auto add = [&](const Location& where, std::vector<MemoryRange>& ranges) {
    if (where.block >= 0) {
      const Block& block = blocks_[static_cast<std::size_t>(where.block)];
      if (block.output_buffer >= 0) {
        ranges.push_back({1 + block.output_buffer, 0, 1});
      } else {
        ranges.push_back({0, block.arena_offset, block.arena_offset + align(block.bytes)});
      }
      return;
    }
    if (where.leaf < 0) return;
    const std::int32_t buffer = overwritten[static_cast<std::size_t>(where.leaf)];
    if (buffer >= 0) ranges.push_back({1 + buffer, 0, 1});
  };
  std::vector<StepAccess> all(steps_.size());
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    for (const Location& where : steps_[s].inputs) add(where, all[s].reads);
    for (const Location& where : steps_[s].outputs) add(where, all[s].writes);
    Location scratch;
    scratch.block = steps_[s].scratch_block;
    add(scratch, all[s].writes);
    all[s].kind = steps_[s].kind;
  }
  return all;
}

void Planner::form_waves() {
  if (steps_.size() == 1) {
    plan_.steps[0].wave = 0;
    return;
  }
  const std::vector<std::int32_t> waves = waves_of(accesses());
  std::vector<std::size_t> order(waves.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return waves[a] < waves[b]; });
  std::vector<PlanStep> sorted;
  sorted.reserve(order.size());
  std::int32_t peak = plan_.peak_step;
  for (const std::size_t s : order) {
    if (static_cast<std::int32_t>(s) == plan_.peak_step) {
      peak = static_cast<std::int32_t>(sorted.size());
    }
    plan_.steps[s].wave = waves[s];
    sorted.push_back(std::move(plan_.steps[s]));
  }
  plan_.steps = std::move(sorted);
  plan_.peak_step = peak;
}

}  // namespace

std::size_t Plan::output_bytes() const {
  std::size_t total = 0;
  for (const std::size_t bytes : output_buffers) total += bytes;
  return total;
}

bool Plan::moves_at_most(std::size_t bytes) const {
  constexpr std::size_t kFewSteps = 4;
  constexpr double kFlopsOfByte = 4;
  if (steps.size() > kFewSteps) return false;
  double moved = 0, computed = 0;
  for (const PlanStep& step : steps) {
    moved += step.label.bytes;
    computed += step.label.flops;
  }
  const auto most = static_cast<double>(bytes);
  return moved <= most && computed <= kFlopsOfByte * most;
}

Plan make_plan(const ComputationGraph& graph, const backend::Backend& backend) {
  return Planner(graph, backend).run();
}

}  // namespace metal_candle
