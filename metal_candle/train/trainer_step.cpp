// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// One iteration as a graph: loss, gradients, clipping and update, evaluated together.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/profiler.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/train/trainer.h"

namespace metal_candle {
namespace {

void append(std::vector<Tensor>& list, const Tree& tree) {
  for (const Tensor& leaf : tree.leaves()) list.push_back(leaf);
}

void require_loss(const LossAndCount& result) {
  const auto is_scalar = [](const Tensor& x) { return !x.empty() && x.shape().empty(); };
  if (is_scalar(result.loss) && result.loss.dtype() == DType::kF32 && is_scalar(result.count) &&
      is_integer(result.count.dtype())) {
    return;
  }
  const auto describe = [](const Tensor& x) {
    return x.empty() ? std::string("nothing")
                     : fmt::format("{}{}", name(x.dtype()), to_string(x.shape()));
  };
  throw ShapeError(
      fmt::format("the loss function must give f32[] and an integer count [], not {} and {}",
                  describe(result.loss), describe(result.count)));
}

}  // namespace

struct Trainer::Step {
  Pending pending;
  Tree parameters, state, accumulated;
  Tensor accumulated_count;
  std::vector<Tensor> outputs;  // All of it, in the order in which it is best computed.
};

// With the gradients that are ready first in front, each is computed, and what it came from is
// freed, before the backward pass goes on; otherwise, recomputing activations layer by layer would
// keep them all. What a gradient needs is the forward pass and the backward pass down to its layer,
// so the smaller its graph, the earlier it is ready.
void Trainer::sort_gradients(const Tree& gradients) {
  std::vector<std::size_t> sizes;
  for (const Tensor& gradient : gradients.leaves()) sizes.push_back(gradient.graph_size());
  gradient_order_.resize(sizes.size());
  std::iota(gradient_order_.begin(), gradient_order_.end(), 0);
  std::stable_sort(gradient_order_.begin(), gradient_order_.end(),
                   [&](std::size_t a, std::size_t b) { return sizes[a] < sizes[b]; });
}

Trainer::Step Trainer::build_step(const TokenBatch& batch, bool update) {
  const Tensor key = random::fold_in(key_, Tensor(iteration_).to(key_.device()));
  const auto loss_and_count = [&](const Tree& parameters) {
    LossAndCount result = loss_(parameters, batch.to(key_.device()), key);
    require_loss(result);
    return std::pair(result.loss, astype(result.count, DType::kI64));
  };
  auto [loss, gradients, count] = value_and_grad(loss_and_count)(parameters_);
  if (gradient_order_.empty()) sort_gradients(gradients);

  Step step;
  step.pending.report.iteration = iteration_ + 1;
  step.pending.batch_elements = batch.tokens.size();
  step.pending.loss = loss;
  step.pending.count = count;
  const bool first = accumulated_count_.empty();
  if (!first || !update) {
    const auto to_f32 = [](const Tensor& x) { return astype(x, DType::kF32); };
    const auto add = [&](const Tensor& x, const Tensor& y) { return x + to_f32(y); };
    gradients = first ? gradients.map(to_f32) : map(add, accumulated_, gradients);
    count = first ? count : accumulated_count_ + count;
  }
  // Loss and reduced gradients first, so that by the time parameters are overwritten nothing is
  // left that reads them.
  step.outputs.push_back(loss);
  if (!update) {
    const std::vector<Tensor> leaves = gradients.leaves();
    for (const std::size_t i : gradient_order_) step.outputs.push_back(leaves[i]);
    step.outputs.insert(step.outputs.end(), {step.pending.count, count});
    step.accumulated = std::move(gradients);
    step.accumulated_count = count;
    return step;
  }
  std::vector<Tensor> squares;
  const Tensor inverse_count = 1.0 / maximum(astype(count, DType::kF32), 1.0);
  const Tensor norm = global_norm(gradients, &squares) * inverse_count;
  for (const std::size_t i : gradient_order_) step.outputs.push_back(squares[i]);
  const Tensor scale = options_.max_grad_norm > 0
                           ? inverse_count * clip_scale(norm, options_.max_grad_norm)
                           : inverse_count;
  const double rate = schedule_(progress_.updates);
  AdamW::Updated updated =
      optimizer_.update(parameters_, gradients, state_, Tensor(rate).to(key_.device()), scale);
  step.outputs.insert(step.outputs.end(), {step.pending.count, norm});
  append(step.outputs, updated.parameters);
  append(step.outputs, updated.state);
  step.parameters = std::move(updated.parameters);
  step.state = std::move(updated.state);
  step.pending.report.updated = true;
  step.pending.report.learning_rate = rate;
  step.pending.gradient_norm = norm;
  return step;
}

void Trainer::queue_step(const TokenBatch& batch) {
  const ProfileScope range("training step, queued");
  const bool update =
      (iteration_ + 1) % options_.grad_accumulation_steps == 0 || iteration_ + 1 == options_.iters;
  std::vector<Tensor> outputs;
  {
    Step step = build_step(batch, update);
    outputs = std::move(step.outputs);
    pending_.push_back(std::move(step.pending));
    if (update) {
      parameters_ = std::move(step.parameters);
      state_ = std::move(step.state);
      ++progress_.updates;
    }
    accumulated_ = std::move(step.accumulated);
    accumulated_count_ = step.accumulated_count;
    ++iteration_;
  }
  // By now nothing but the outputs leads to the old values, whose memory they take over. Should
  // there not be enough memory, they are computed when there is.
  (void)eval_async(outputs);
}

TrainStart Trainer::start_report() {
  TrainStart start;
  start.first_iteration = iteration_ + 1;
  start.iterations = options_.iters;
  start.settings = settings();
  start.parameter_tensors = parameters_.size();
  for (const Tensor& parameter : parameters_.leaves()) start.parameters += parameter.size();
  // One by one, or zeros of one shape would share their memory, which could not be overwritten.
  for (const Tensor& leaf : state_.leaves()) leaf.eval();
  eval(parameters_.leaves());
  TokenBatch batch;
  if (const std::optional<Shape> largest = training_.largest()) {
    const std::vector<std::int32_t> tokens(static_cast<std::size_t>(num_elements(*largest)), 0);
    batch = make_token_batch(tokens, tokens, (*largest)[0], (*largest)[1]);
  } else {
    const std::string state = training_.state();
    batch = next_batch();
    training_.restore(state);
  }
  const EvaluationPlan plan = plan_evaluation(build_step(batch, true).outputs);
  start.kernels = plan.steps;
  const std::size_t accumulators =
      options_.grad_accumulation_steps > 1 ? static_cast<std::size_t>(start.parameters) * 4 : 0;
  // Of two iterations that are under way, each has outputs of its own; intermediates are shared.
  start.predicted_peak_bytes = memory_use(key_.device()).in_use + plan.peak_bytes -
                               plan.donated_bytes + plan.output_bytes - plan.donated_bytes +
                               accumulators;
  return start;
}

}  // namespace metal_candle
