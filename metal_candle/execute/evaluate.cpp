// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Evaluation from the top: claim the outputs, trace, find or make a plan, run it, attach the
// values.
#include "metal_candle/execute/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "metal_candle/backend/registry.h"
#include "metal_candle/core/error.h"
#include "metal_candle/core/host_observer.h"
#include "metal_candle/core/inline_vector.h"
#include "metal_candle/execute/async_executor.h"
#include "metal_candle/execute/plan_cache.h"
#include "metal_candle/execute/plan_traffic.h"
#include "metal_candle/execute/profiler.h"
#include "metal_candle/execute/statistics.h"
#include "metal_candle/graph/trace.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle {
namespace {

PlanCache& plan_cache() {
  static auto* cache = new PlanCache;  // Used by workers until the process ends.
  return *cache;
}

// The nodes that this thread has the right to evaluate. Gives the claims back if it does not come
// to that.
class Claims {
 public:
  explicit Claims(std::span<const Tensor> outputs) {
    for (const Tensor& output : outputs) {
      Node* node = output.node().get();
      if (node->resolved()) continue;
      if (std::find(nodes_.begin(), nodes_.end(), node) == nodes_.end()) nodes_.push_back(node);
    }
    if (nodes_.size() <= 1) {
      if (!nodes_.empty() && !nodes_[0]->claim()) nodes_.clear();
      return;
    }
    // In order of address, so that two threads claiming the same nodes cannot wait for each other;
    // but traced in the order asked for, so that the structure is the same every time.
    std::vector<Node*> sorted(nodes_.begin(), nodes_.end());
    std::sort(sorted.begin(), sorted.end(), std::less<>());
    std::vector<Node*> lost;
    for (Node* node : sorted) {
      if (!node->claim()) lost.push_back(node);
    }
    Node* const* const kept = std::remove_if(nodes_.begin(), nodes_.end(), [&](Node* node) {
      return std::find(lost.begin(), lost.end(), node) != lost.end();
    });
    nodes_.truncate(static_cast<std::size_t>(kept - nodes_.begin()));
  }
  ~Claims() {
    for (std::size_t i = resolved_; i < nodes_.size(); ++i) nodes_[i]->abandon();
  }
  Claims(const Claims&) = delete;
  Claims& operator=(const Claims&) = delete;

  [[nodiscard]] std::span<Node* const> nodes() const { return {nodes_.data(), nodes_.size()}; }
  void resolve(Values values) {
    for (; resolved_ < nodes_.size(); ++resolved_) {
      nodes_[resolved_]->resolve(std::move(values[resolved_]));
    }
  }

 private:
  InlineVector<Node*, 4> nodes_;
  std::size_t resolved_ = 0;
};

// While sealed, no other thread can begin to read what the outputs are computed from. Nodes of a
// function being differentiated cannot be: their expressions will be read again.
bool seal(std::span<Node* const> nodes) {
  if (std::any_of(nodes.begin(), nodes.end(),
                  [](const Node* node) { return bool{node->gradient_scope()}; })) {
    return false;
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i]->seal()) continue;
    while (i > 0) nodes[--i]->unseal();
    return false;
  }
  return true;
}

void unseal(std::span<Node* const> nodes) {
  for (Node* node : nodes) node->unseal();
}

// Leaves that only this trace can reach, and only until its outputs have let go of it: their memory
// may be overwritten. The outputs are sealed.
std::vector<bool> donatable_leaves(const Trace& trace, std::span<Node* const> claimed) {
  const auto entries = trace.entries();
  std::vector<std::uint32_t> edges_in(entries.size(), 0);
  std::vector<char> kept(entries.size(), 0);  // Some reader of it stays reachable.
  std::vector<char> is_output(entries.size(), 0);
  // Only true references count: an edge through an alias is a reference to the alias.
  std::unordered_map<const Node*, std::uint32_t> alias_edges_in;
  const auto count = [&](const Node* input, std::int32_t entry) {
    const auto index = static_cast<std::size_t>(entry);
    ++(entries[index].node == input ? edges_in[index] : alias_edges_in[input]);
  };
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto edges = trace.edges(i);
    for (std::size_t k = 0; k < edges.size(); ++k) count(entries[i].node->inputs()[k], edges[k]);
  }
  for (const Trace::Alias& alias : trace.aliases()) count(alias.node->inputs()[0], alias.entry);
  for (const Trace::Alias& alias : trace.aliases()) {
    if (alias.node->use_count() != alias_edges_in[alias.node])
      kept[static_cast<std::size_t>(alias.entry)] = 1;
  }
  for (const std::int32_t output : trace.outputs()) is_output[static_cast<std::size_t>(output)] = 1;
  std::vector<bool> donatable(trace.leaves().size(), false);
  for (std::size_t i = entries.size(); i-- > 0;) {
    const Node* node = entries[i].node;
    const bool claimed_output =
        is_output[i] != 0 && std::find(claimed.begin(), claimed.end(), node) != claimed.end();
    const bool reachable = !claimed_output && node->use_count() != edges_in[i];
    if (entries[i].leaf >= 0) {
      donatable[static_cast<std::size_t>(entries[i].leaf)] =
          !reachable && is_output[i] == 0 && kept[i] == 0 &&
          node->value().storage->use_count() == 1 && !node->value().storage->borrowed();
      continue;
    }
    if (reachable || kept[i] != 0 || node->gradient_scope()) {
      for (const std::int32_t input : trace.edges(i)) kept[static_cast<std::size_t>(input)] = 1;
    }
  }
  return donatable;
}

std::shared_ptr<const CompiledGraph> find_or_compile(const Trace& trace, const PassSet& passes,
                                                     Device device) {
  const std::uint64_t hash = trace.hash();
  std::shared_ptr<const CompiledGraph> compiled = plan_cache().find(trace, hash, passes, device);
  if (compiled) {
    statistics().plan_hits.fetch_add(1, std::memory_order_relaxed);
    return compiled;
  }
  compiled = compile(trace, passes, device);
  statistics().plans_made.fetch_add(1, std::memory_order_relaxed);
  plan_cache().insert(hash, compiled);
  return compiled;
}

PassSet passes_for(ExecutionMode mode) {
  return mode == ExecutionMode::kEager ? PassSet::none() : current_passes();
}

// Whether donatable_leaves() may find one that the plan would overwrite. Of a few nodes mostly not,
// and this costs less: whoever holds a leaf from outside shows in its count. It looks at every edge
// for each donation, so that many nodes are left to donatable_leaves(), which is linear.
bool may_donate(const Plan& plan, const Trace& trace) {
  constexpr std::size_t kFew = 32;
  if (trace.entries().size() > kFew) return !plan.donations.empty();
  return std::ranges::any_of(plan.donations, [&](const Donation& donation) {
    const Node* leaf = trace.leaves()[static_cast<std::size_t>(donation.leaf)];
    if (leaf->value().storage->use_count() != 1 || leaf->value().storage->borrowed()) return false;
    std::uint32_t within = 0;  // At least as many references as the trace holds.
    for (std::size_t i = 0; i < trace.entries().size(); ++i) {
      for (const std::int32_t edge : trace.edges(i)) {
        if (trace.entries()[static_cast<std::size_t>(edge)].node == leaf) ++within;
      }
    }
    return leaf->use_count() <= within + trace.aliases().size();
  });
}

Values run_parts(const std::shared_ptr<const CompiledGraph>& compiled, const Trace& trace,
                 std::span<Node* const> claimed, bool blocking, int queue) {
  backend::Backend& backend = backend::backend_for(compiled->device);
  AsyncExecutor executor(backend);
  const ExecutionMode mode = execution_mode();
  Values values;
  for (std::size_t i = 0; i < compiled->structure.outputs().size(); ++i) values.emplace_back();
  const std::size_t num_parts = compiled->parts.size();
  // The last part first: a blocking caller then runs part 0 itself while queues run the others.
  for (std::size_t p = num_parts; p-- > 0;) {
    const CompiledGraph::Part& part = compiled->parts[p];
    ExecutionRequest request;
    request.owner = compiled;
    request.plan = &part.plan;
    request.mode = mode;
    request.queue = (queue + static_cast<int>(p)) % backend.num_queues();
    request.blocking = blocking && p == 0;
    // Queue 0 orders readers before the overwriting; the other modes do not go through it.
    const bool in_order = mode == ExecutionMode::kAsync || backend.queue(0).idle();
    const bool donates =
        num_parts == 1 && queue == 0 && in_order && may_donate(part.plan, trace) && seal(claimed);
    // Counted before request.leaves has handles of its own.
    if (donates) request.donatable = donatable_leaves(trace, claimed);
    request.leaves.reserve(part.leaves.size());
    for (const std::int32_t leaf : part.leaves) {
      request.leaves.push_back(trace.leaves()[static_cast<std::size_t>(leaf)]->value());
    }
    Values part_values;
    try {
      part_values = executor.execute(std::move(request));
    } catch (...) {
      if (donates) unseal(claimed);
      throw;
    }
    for (std::size_t i = 0; i < part_values.size(); ++i) {
      values[static_cast<std::size_t>(part.outputs[i])] = std::move(part_values[i]);
    }
  }
  return values;
}

Device common_device(std::span<Node* const> nodes) {
  const Device device = nodes[0]->device();
  for (const Node* node : nodes) {
    if (!(node->device() == device)) {
      throw DeviceError(fmt::format("eval: outputs are on {} and {}; evaluate them separately",
                                    to_string(device), to_string(node->device())));
    }
  }
  return device;
}

// Attaches values (perhaps still being computed) to all outputs.
void schedule(std::span<const Tensor> outputs, bool blocking, int queue) {
  for (const Tensor& output : outputs) {
    if (output.empty()) throw Error("eval: an output is an empty tensor");
  }
  Claims claims(outputs);
  if (claims.nodes().empty()) return;
  start_trace_from_environment();
  const Device device = common_device(claims.nodes());
  Values values;
  {
    std::optional<ScopedPhase> finding(HostPhase::kFindPlan);
    const Trace trace(claims.nodes());
    statistics().evaluations.fetch_add(1, std::memory_order_relaxed);
    statistics().nodes.fetch_add(trace.entries().size() - trace.leaves().size(),
                                 std::memory_order_relaxed);
    const auto compiled = find_or_compile(trace, passes_for(execution_mode()), device);
    finding.reset();
    values = run_parts(compiled, trace, claims.nodes(), blocking, queue);
  }
  claims.resolve(std::move(values));
}

void wait_for(const Tensor& tensor) {
  const CompletionPtr& completion = tensor.node()->value().storage->completion();
  if (!completion) return;
  if (!completion->ready()) statistics().waits.fetch_add(1, std::memory_order_relaxed);
  completion->wait();
}

}  // namespace

void eval(std::span<const Tensor> outputs) {
  schedule(outputs, /*blocking=*/true, /*queue=*/0);
  for (const Tensor& output : outputs) wait_for(output);
}

void eval(const std::vector<Tensor>& outputs) { eval(std::span<const Tensor>(outputs)); }

Future eval_async(std::span<const Tensor> outputs, int queue) {
  for (const Tensor& output : outputs) {
    if (output.empty()) throw Error("eval_async: an output is an empty tensor");
    const int count = backend::backend_for(output.device()).num_queues();
    if (queue < 0 || queue >= count) {
      throw DeviceError(fmt::format("eval_async: queue {} of {}: there are {}", queue,
                                    to_string(output.device()), count));
    }
  }
  schedule(outputs, /*blocking=*/false, queue);
  return Future(outputs);
}

Future eval_async(const std::vector<Tensor>& outputs, int queue) {
  return eval_async(std::span<const Tensor>(outputs), queue);
}

Future Tensor::eval_async() const { return metal_candle::eval_async({this, 1}); }

std::size_t Tensor::graph_size() const {
  if (node_->resolved()) return 0;
  Node* const root[] = {node_.get()};
  const Trace trace(root);
  return trace.entries().size() - trace.leaves().size();
}

void synchronize(Device device) {
  const ScopedPhase waiting(HostPhase::kWait);
  backend::Backend& backend = backend::backend_for(device);
  for (int queue = 0; queue < backend.num_queues(); ++queue) backend.queue(queue).synchronize();
}

EvaluationPlan plan_evaluation(std::span<const Tensor> outputs) {
  EvaluationPlan result;
  std::vector<Node*> nodes;
  for (const Tensor& output : outputs) {
    if (output.empty()) throw Error("plan_evaluation: an output is an empty tensor");
    if (!output.is_evaluated()) nodes.push_back(output.node().get());
  }
  if (nodes.empty()) return result;
  const Device device = common_device(nodes);
  const Trace trace(nodes);
  const auto compiled = find_or_compile(trace, passes_for(execution_mode()), device);
  result.nodes = trace.entries().size() - trace.leaves().size();
  std::size_t fullest = 0;
  for (const CompiledGraph::Part& part : compiled->parts) {
    const Plan& plan = part.plan;
    result.steps += plan.steps.size();
    result.peak_bytes += plan.peak_bytes();
    result.output_bytes += plan.output_bytes();
    for (const Donation& donation : plan.donations) {
      result.donated_bytes += plan.output_buffers[static_cast<std::size_t>(donation.output_buffer)];
    }
    if (plan.peak_step >= 0 && plan.arena_bytes >= fullest) {
      fullest = plan.arena_bytes;
      const backend::StepLabel& label = plan.steps[static_cast<std::size_t>(plan.peak_step)].label;
      result.peak_step = label.name + " " + label.detail;
    }
  }
  // Plans do not keep what led to them.
  result.traced = compiled->structure;
  result.optimized = compiled->structure;
  OptimizationReport report;
  optimize_for_device(result.optimized, compiled->passes, device, &report);
  result.optimizer_report = report.to_string();
  return result;
}

EvaluationPlan plan_evaluation(const std::vector<Tensor>& outputs) {
  return plan_evaluation(std::span<const Tensor>(outputs));
}

PlanTraffic plan_traffic(std::span<const Tensor> outputs) {
  std::vector<Node*> nodes;
  for (const Tensor& output : outputs) {
    if (output.empty()) throw Error("plan_traffic: an output is an empty tensor");
    if (!output.is_evaluated()) nodes.push_back(output.node().get());
  }
  PlanTraffic traffic;
  if (nodes.empty()) return traffic;
  const Trace trace(nodes);
  const auto compiled = find_or_compile(trace, passes_for(execution_mode()), common_device(nodes));
  for (const CompiledGraph::Part& part : compiled->parts) {
    traffic.steps += part.plan.steps.size();
    for (const PlanStep& step : part.plan.steps) traffic.bytes += step.label.bytes;
  }
  return traffic;
}

bool detail::has_plan(std::span<const Tensor> outputs) {
  std::vector<Node*> nodes;
  for (const Tensor& output : outputs) nodes.push_back(output.node().get());
  const Trace trace(nodes);
  const PassSet passes = passes_for(execution_mode());
  return plan_cache().find(trace, trace.hash(), passes, common_device(nodes)) != nullptr;
}

MemoryUse memory_use(Device device) {
  const backend::MemoryStatistics memory = backend::backend_for(device).memory();
  return {memory.in_use, memory.peak, memory.cached, memory.limit};
}
void reset_peak_memory(Device device) { backend::backend_for(device).reset_peak_memory(); }
void set_memory_limit(std::size_t bytes, Device device) {
  backend::backend_for(device).set_memory_limit(bytes);
}
void clear_memory_cache(Device device) { backend::backend_for(device).clear_memory_cache(); }

// ---- What graph/ asks of this layer
// -------------------------------------------------------------------

StoragePtr detail::allocate_storage(Device device, std::size_t bytes) {
  backend::BufferPtr buffer = backend::backend_for(device).allocate(bytes);
  void* contents = buffer->contents();
  return make_intrusive<Storage>(device, buffer, contents, nullptr);
}

StoragePtr detail::borrow_storage(Device device, std::span<const std::byte> bytes,
                                  std::shared_ptr<const void> owner) {
  const backend::BufferPtr buffer = backend::backend_for(device).borrow(bytes, std::move(owner));
  return make_intrusive<Storage>(device, buffer, buffer->contents(), nullptr,
                                 Storage::Ownership::kBorrowed);
}

void detail::write_storage(Storage& storage, std::span<const std::byte> bytes) {
  backend::backend_for(storage.device())
      .write(static_cast<backend::Buffer&>(*storage.buffer()), 0, bytes);
}

void detail::read_storage(const Storage& storage, std::size_t offset, std::span<std::byte> bytes) {
  backend::backend_for(storage.device())
      .read(static_cast<const backend::Buffer&>(*storage.buffer()), offset, bytes);
}

void detail::evaluate_and_wait(std::span<const Tensor> outputs) { eval(outputs); }
void detail::evaluate_eagerly(const Tensor& tensor) { eval({&tensor, 1}); }

}  // namespace metal_candle
