// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Walks the pending expressions from outputs to arguments, then carries cotangents back.
#include "metal_candle/autograd/differentiation.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "metal_candle/autograd/gradient_rules.h"
#include "metal_candle/graph/shape_rules.h"

namespace metal_candle::detail {
namespace {

// The innermost open scope made on this thread. A function may close over tensors of an enclosing
// differentiation without taking them as arguments, so the primals alone do not tell the parent.
thread_local IntrusivePtr<GradientScope> innermost_scope;

bool belongs_to(const Node* node, const GradientScope* scope) {
  for (IntrusivePtr<GradientScope> s = node->gradient_scope(); s; s = s->parent()) {
    if (s.get() == scope) return true;
  }
  return false;
}

/// Whether the operation has several outputs, so that its spec says nothing of most of them.
bool has_several_outputs(const Operation& operation) {
  return std::holds_alternative<op::CustomGradient>(operation) || num_outputs(operation) > 1;
}

/// False where no gradient passes whatever the inputs. Only while pinned.
bool may_carry_gradient(const Node* node) {
  const Operation& operation = node->operation();
  return !std::holds_alternative<op::StopGradient>(operation) &&
         (is_floating(node->spec().dtype) || has_several_outputs(operation));
}

/// The inputs through which an output's value depends, differentiably, on something. Only while
/// pinned.
std::span<Node* const> differentiable_inputs(const Node* node) {
  const auto inputs = node->inputs();
  const Operation& operation = node->operation();
  if (std::holds_alternative<op::Barrier>(operation)) return inputs.first(1);
  // The values of a custom gradient come with a rule for the arguments that follow them.
  if (const auto* custom = std::get_if<op::CustomGradient>(&operation)) {
    return inputs.subspan(static_cast<std::size_t>(custom->num_outputs));
  }
  return inputs;
}

/// Unpins what it pinned, in reverse: a node may be alive only through the pinned one it was
/// reached from.
class Pins {
 public:
  Pins() = default;
  Pins(const Pins&) = delete;
  Pins& operator=(const Pins&) = delete;
  ~Pins() {
    for (auto it = nodes_.rbegin(); it != nodes_.rend(); ++it) (*it)->unpin();
  }
  bool pin(const Node* node) {
    if (!node->pin()) return false;
    nodes_.push_back(node);
    return true;
  }

 private:
  std::vector<const Node*> nodes_;
};

/// A node between the outputs and the arguments.
struct Record {
  Record(Node* of, bool is_needed) : node(of), needed(is_needed) {}
  Node* node;
  bool needed;                     // Depends on a wanted primal.
  Tensor cotangent;                // Of the only output.
  std::vector<Tensor> cotangents;  // By output, where there are several.
};

Tensor handle(Node* node) { return Tensor(NodePtr(node)); }

void accumulate(Tensor& total, const Tensor& term) {
  total = total.empty() ? term : make_node(op::Binary{BinaryKind::kAdd}, {&total, &term});
}

Tensor zeros_like(const Tensor& x) {
  return make_node(op::Full{}, std::span<const Tensor* const>(), x.spec(), x.device());
}

class Sweep {
 public:
  explicit Sweep(const GradientScope* scope) : scope_(scope) {}

  void add_argument(const Tensor& argument) {
    index_.emplace(argument.node().get(), records_.size());
    records_.emplace_back(argument.node().get(), true);
    num_arguments_ = records_.size();
  }

  /// Records what is under an output, inputs before users.
  void visit(Node* output) {
    struct Frame {
      Node* node;
      std::span<Node* const> inputs;
      std::size_t next = 0;
      bool needed = false;
    };
    std::vector<Frame> stack;
    const auto enter = [&](Node* node) {
      if (index_.contains(node) || !belongs_to(node, scope_) || !pins_.pin(node)) return;
      if (!may_carry_gradient(node)) return;
      stack.push_back({node, differentiable_inputs(node)});
    };
    enter(output);
    while (!stack.empty()) {
      Frame& frame = stack.back();
      if (frame.next > 0) frame.needed |= is_needed(frame.inputs[frame.next - 1]);
      if (frame.next < frame.inputs.size()) {
        Node* input = frame.inputs[frame.next++];
        enter(input);  // May move the frame.
        continue;
      }
      index_.emplace(frame.node, records_.size());
      records_.emplace_back(frame.node, frame.needed);
      stack.pop_back();
    }
  }

  void add_cotangent(Node* node, const Tensor& cotangent) {
    Record* record = find(node);
    if (record && record->needed && !cotangent.empty()) accumulate(record->cotangent, cotangent);
  }

  /// Users before inputs, so that a cotangent is complete when its node is reached.
  void sweep() {
    for (std::size_t i = records_.size(); i-- > num_arguments_;) {
      Record& record = records_[i];
      if (record.needed) propagate(record);
      record.cotangent = Tensor();
      record.cotangents.clear();
    }
  }

  [[nodiscard]] Tensor argument_cotangent(const Tensor& argument) {
    return find(argument.node().get())->cotangent;
  }

 private:
  Record* find(const Node* node) {
    const auto found = index_.find(node);
    return found == index_.end() ? nullptr : &records_[found->second];
  }
  bool is_needed(const Node* node) {
    const Record* record = find(node);
    return record != nullptr && record->needed;
  }

  void propagate(Record& record) {
    const Operation& operation = record.node->operation();
    const auto inputs = record.node->inputs();
    if (const auto* pick = std::get_if<op::Pick>(&operation)) {
      if (record.cotangent.empty()) return;
      std::vector<Tensor>& of_tuple = find(inputs[0])->cotangents;
      const auto index = static_cast<std::size_t>(pick->index);
      if (of_tuple.size() <= index) of_tuple.resize(index + 1);
      accumulate(of_tuple[index], record.cotangent);
      return;
    }
    std::vector<Tensor> cotangents = cotangents_of(record, operation);
    if (cotangents.empty()) return;
    std::vector<Tensor> operands;
    std::vector<bool> needs;
    for (Node* input : inputs) {
      operands.push_back(handle(input));
      needs.push_back(is_needed(input));
    }
    // A needed node may also be an input through which nothing is passed back.
    const auto passing = differentiable_inputs(record.node);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Node* const* place = inputs.data() + i;
      needs[i] = needs[i] && place >= passing.data() && place < passing.data() + passing.size();
    }
    VjpContext context(operation, handle(record.node), std::move(operands), std::move(needs),
                       std::move(cotangents));
    apply_vjp_rule(operation, context);
    const std::vector<Tensor> gradients = context.take_gradients();
    for (std::size_t i = 0; i < inputs.size(); ++i) add_cotangent(inputs[i], gradients[i]);
  }

  /// One for each output, or none at all if all are zero.
  static std::vector<Tensor> cotangents_of(const Record& record, const Operation& operation) {
    std::vector<Tensor> cotangents;
    if (const auto* custom = std::get_if<op::CustomGradient>(&operation)) {
      cotangents = record.cotangents;
      if (!cotangents.empty()) cotangents.resize(static_cast<std::size_t>(custom->num_outputs));
    } else if (const int count = num_outputs(operation); count > 1) {
      cotangents = record.cotangents;
      if (!cotangents.empty()) cotangents.resize(static_cast<std::size_t>(count));
    } else if (!record.cotangent.empty()) {
      cotangents.push_back(record.cotangent);
    }
    return cotangents;
  }

  const GradientScope* scope_;
  Pins pins_;
  std::vector<Record> records_;  // Arguments, then nodes with inputs before users.
  std::size_t num_arguments_ = 0;
  std::unordered_map<const Node*, std::size_t> index_;
};

}  // namespace

Differentiation::Differentiation(const std::vector<Tensor>& primals,
                                 const std::vector<bool>& wanted)
    : primals_(primals), wanted_(wanted), outer_(innermost_scope) {
  IntrusivePtr<GradientScope> parent =
      outer_ && outer_->open() ? outer_ : IntrusivePtr<GradientScope>();
  for (const Tensor& primal : primals) {
    const IntrusivePtr<GradientScope> scope = primal.node()->gradient_scope();
    if (scope && (!parent || scope->depth() > parent->depth())) parent = scope;
  }
  scope_ = make_intrusive<GradientScope>(std::move(parent));
  for (std::size_t i = 0; i < primals.size(); ++i) {
    if (!wanted[i]) {
      arguments_.push_back(primals[i]);
      continue;
    }
    // Not through make_node(), which in eager mode would evaluate it before it is in the scope.
    Node* const input[] = {primals[i].node().get()};
    NodePtr node = Node::make(op::Identity{}, primals[i].spec(), primals[i].device(), input);
    node->set_gradient_scope(scope_);
    arguments_.emplace_back(std::move(node));
  }
  innermost_scope = scope_;
}

Differentiation::~Differentiation() {
  innermost_scope = outer_;
  scope_->close();
}

std::vector<Tensor> Differentiation::pull_back(const std::vector<Tensor>& outputs,
                                               const std::vector<Tensor>& cotangents) const {
  Sweep sweep(scope_.get());
  for (std::size_t i = 0; i < arguments_.size(); ++i) {
    if (wanted_[i]) sweep.add_argument(arguments_[i]);
  }
  for (const Tensor& output : outputs) sweep.visit(output.node().get());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    sweep.add_cotangent(outputs[i].node().get(), cotangents[i]);
  }
  sweep.sweep();
  std::vector<Tensor> gradients(arguments_.size());
  for (std::size_t i = 0; i < arguments_.size(); ++i) {
    if (!wanted_[i]) continue;
    gradients[i] = sweep.argument_cotangent(arguments_[i]);
    if (gradients[i].empty()) gradients[i] = zeros_like(primals_[i]);
  }
  return gradients;
}

bool depends_on_others(const std::vector<Tensor>& tensors, const std::vector<Tensor>& arguments) {
  Pins pins;
  std::unordered_map<const Node*, bool> seen;
  std::vector<Node*> stack;
  for (const Tensor& argument : arguments) seen.emplace(argument.node().get(), true);
  const auto enter = [&](Node* node) {
    if (seen.emplace(node, true).second) stack.push_back(node);
  };
  for (const Tensor& tensor : tensors) {
    if (tensor.node()->gradient_scope()) enter(tensor.node().get());
  }
  while (!stack.empty()) {
    Node* node = stack.back();
    stack.pop_back();
    if (!pins.pin(node)) continue;
    if (!may_carry_gradient(node)) continue;
    const auto scoped = [](Node* input) { return static_cast<bool>(input->gradient_scope()); };
    // The argument of an open scope is in it, and what it was made from is not.
    if (std::ranges::none_of(node->inputs(), scoped)) return true;
    for (Node* input : differentiable_inputs(node)) {
      if (scoped(input)) enter(input);
    }
  }
  return false;
}

}  // namespace metal_candle::detail
