// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The work list is a stack: what a rewrite made is looked at again before anything further down the
// graph, so that patterns see their operands in final form.
#include "metal_candle/optimize/graph_optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <span>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

/// Live nodes, each after its inputs (Kahn's algorithm).
std::vector<NodeId> topological_order(const ComputationGraph& graph) {
  const auto size = static_cast<std::size_t>(graph.size());
  std::vector<std::size_t> missing(size, 0);
  std::vector<NodeId> order;
  order.reserve(size);
  for (NodeId id = 0; id < graph.size(); ++id) {
    const GraphNode& node = graph.node(id);
    missing[static_cast<std::size_t>(id)] = node.inputs.size();
    if (!node.dead && node.inputs.empty()) order.push_back(id);
  }
  for (std::size_t i = 0; i < order.size(); ++i) {
    // One entry in users for each edge, so each edge is counted off once.
    for (const NodeId user : graph.node(order[i]).users) {
      if (--missing[static_cast<std::size_t>(user)] == 0) order.push_back(user);
    }
  }
  return order;
}

/// The operations of live nodes that are not inputs.
OperationSet operations_of(const ComputationGraph& graph) {
  OperationSet set;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const GraphNode& node = graph.node(id);
    if (!node.dead && !node.is_input()) {
      set = set | OperationSet::of_index(node.operation.index());
    }
  }
  return set;
}

/// A pass in a stage over one graph. Most passes find nothing to look at in most graphs, so that an
/// instance is made when there is something.
struct RunningPass {
  const PassEntry* entry;
  PassEntry::Traits traits;
  std::shared_ptr<FusionPass> pass = nullptr;
  std::int64_t rewrites = 0;

  FusionPass& instance() {
    if (!pass) pass = entry->instance();
    return *pass;
  }
};

/// One stage over one graph.
class StageRun {
 public:
  StageRun(ComputationGraph& graph, std::vector<RunningPass> passes)
      : graph_(graph), passes_(std::move(passes)) {
    // Passes that settle visit a node a handful of times: once, and once for each rewrite near it.
    max_visits_ = 100 * (std::int64_t{graph.live_size()} + 10);
  }

  void run() {
    stack_ = topological_order(graph_);
    const bool users_first = std::any_of(passes_.begin(), passes_.end(), [](const auto& running) {
      return running.traits.order == FusionPass::Order::kUsersFirst;
    });
    if (!users_first) std::reverse(stack_.begin(), stack_.end());
    queued_.assign(static_cast<std::size_t>(graph_.size()), true);
    while (!stack_.empty()) {
      const NodeId id = stack_.back();
      stack_.pop_back();
      queued_[static_cast<std::size_t>(id)] = false;
      if (!graph_.node(id).dead && !graph_.node(id).is_input()) visit(id);
    }
  }

  [[nodiscard]] std::int64_t visits() const { return visits_; }
  [[nodiscard]] std::int64_t rewrites(std::size_t pass) const { return passes_[pass].rewrites; }

 private:
  void visit(NodeId id) {
    ++visits_;
    bool noted = false;
    for (RunningPass& running : passes_) {
      if (!running.traits.roots.contains(graph_.node(id).operation)) continue;
      if (!noted) {
        // After a rewrite the node no longer knows its neighbours.
        users_.assign(graph_.node(id).users.begin(), graph_.node(id).users.end());
        inputs_.assign(graph_.node(id).inputs.begin(), graph_.node(id).inputs.end());
        noted = true;
      }
      const NodeId first_new = graph_.size();
      if (!running.instance().try_fuse(graph_, id)) continue;
      ++running.rewrites;
      if (visits_ > max_visits_) {
        throw Error(fmt::format("optimizer: the passes do not settle; the last to rewrite was {}",
                                running.entry->name));
      }
      queue_neighbours(id, first_new);
      return;
    }
  }

  void queue_neighbours(NodeId id, NodeId first_new) {
    queued_.resize(static_cast<std::size_t>(graph_.size()), false);
    for (const NodeId user : users_) queue(user);
    for (const NodeId input : inputs_) queue_last_users(input);
    for (NodeId added = graph_.size() - 1; added >= first_new; --added) {
      for (const NodeId input : graph_.node(added).inputs) queue_last_users(input);
    }
    queue(id);
    // On top, and inputs before their users.
    for (NodeId added = graph_.size() - 1; added >= first_new; --added) queue(added);
  }
  /// A node that lost a user may now be an intermediate of the one that is left (or, used twice,
  /// of the two).
  void queue_last_users(NodeId id) {
    if (graph_.node(id).dead || graph_.node(id).users.size() > 2) return;
    for (const NodeId user : graph_.node(id).users) queue(user);
  }
  void queue(NodeId id) {
    if (queued_[static_cast<std::size_t>(id)] || graph_.node(id).dead) return;
    queued_[static_cast<std::size_t>(id)] = true;
    stack_.push_back(id);
  }

  ComputationGraph& graph_;
  std::vector<RunningPass> passes_;
  std::vector<NodeId> stack_;
  std::vector<bool> queued_;
  std::vector<NodeId> users_, inputs_;  // Of the node being visited.
  std::int64_t visits_ = 0;
  std::int64_t max_visits_;
};

}  // namespace

std::int64_t OptimizationReport::rewrites(std::string_view pass) const {
  for (const PassReport& report : passes) {
    if (report.pass == pass) return report.rewrites;
  }
  return 0;
}

void OptimizationReport::add(const OptimizationReport& later) {
  if (nodes_before == 0) {
    *this = later;
    return;
  }
  for (std::size_t i = 0; i < passes.size(); ++i) passes[i].rewrites += later.passes[i].rewrites;
  nodes_after = later.nodes_after;
  visits += later.visits;
  seconds += later.seconds;
}

std::string OptimizationReport::to_string() const {
  std::string text = fmt::format("optimized {} nodes to {} in {:.3f} ms ({} visits)\n",
                                 nodes_before, nodes_after, seconds * 1e3, visits);
  for (const PassReport& report : passes) {
    if (report.rewrites == 0) continue;
    fmt::format_to(std::back_inserter(text), "  {:<22} {} rewrite{}\n", report.pass,
                   report.rewrites, report.rewrites == 1 ? "" : "s");
  }
  return text;
}

GraphOptimizer::GraphOptimizer(std::vector<PassEntry> passes) {
  std::stable_sort(passes.begin(), passes.end(),
                   [](const PassEntry& a, const PassEntry& b) { return a.stage < b.stage; });
  for (PassEntry& entry : passes) {
    const PassEntry::Traits traits = entry.traits();
    passes_.push_back({std::move(entry), traits});
  }
}

/// The stages over one graph, and the report of it.
class GraphOptimizer::Run {
 public:
  Run(ComputationGraph& graph, const std::vector<Pass>& passes)
      : graph_(graph), passes_(passes), rewrites_(passes.size(), 0) {
    nodes_before_ = graph.live_size();
  }

  /// Whether anything was rewritten.
  bool stage(OptimizerStage stage) {
    const auto in_stage = [&](const Pass& pass) { return pass.entry.stage == stage; };
    const auto first = std::find_if(passes_.begin(), passes_.end(), in_stage);
    const auto last = std::find_if_not(first, passes_.end(), in_stage);
    const OperationSet operations = operations_of(graph_);
    if (std::none_of(first, last,
                     [&](const Pass& pass) { return pass.traits.roots.intersects(operations); })) {
      return false;
    }
    std::vector<RunningPass> running;
    running.reserve(static_cast<std::size_t>(last - first));
    for (auto pass = first; pass != last; ++pass) running.push_back({&pass->entry, pass->traits});
    StageRun run(graph_, std::move(running));
    run.run();
    visits_ += run.visits();
    const auto begin = static_cast<std::size_t>(first - passes_.begin());
    std::int64_t all = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(last - first); ++i) {
      rewrites_[begin + i] += run.rewrites(i);
      all += run.rewrites(i);
    }
    return all > 0;
  }

  void finish(OptimizationReport* report) {
    graph_.compact();
    if (report == nullptr) return;
    OptimizationReport own;
    own.nodes_before = nodes_before_;
    own.nodes_after = graph_.live_size();
    own.visits = visits_;
    for (std::size_t i = 0; i < passes_.size(); ++i) {
      own.passes.push_back({passes_[i].entry.name, rewrites_[i]});
    }
    own.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    report->add(own);
  }

 private:
  using Clock = std::chrono::steady_clock;
  ComputationGraph& graph_;
  const std::vector<Pass>& passes_;
  NodeId nodes_before_ = 0;
  std::int64_t visits_ = 0;
  std::vector<std::int64_t> rewrites_;  // Of each pass.
  const Clock::time_point start_ = Clock::now();
};

void GraphOptimizer::run(ComputationGraph& graph, OptimizationReport* report) const {
  Run run(graph, passes_);
  run.stage(OptimizerStage::kCanonicalize);
  // Composing leaves reshapes and signs that cancel.
  if (run.stage(OptimizerStage::kCompose)) run.stage(OptimizerStage::kCanonicalize);
  run.stage(OptimizerStage::kEpilogue);
  run.stage(OptimizerStage::kPrologue);
  run.stage(OptimizerStage::kElementwise);
  run.finish(report);
}

void GraphOptimizer::run_after_lowering(ComputationGraph& graph, OptimizationReport* report) const {
  Run run(graph, passes_);
  run.stage(OptimizerStage::kCanonicalize);
  run.stage(OptimizerStage::kElementwise);
  run.finish(report);
}

}  // namespace metal_candle
