// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The life of a node: see node.h for the protocol.
#include "metal_candle/graph/node.h"

#include <algorithm>
#include <utility>

namespace metal_candle {
namespace {

// Nodes whose last reference is gone, waiting for the outermost destroy() of this thread: deleting
// a node releases its inputs, which would recurse as deep as the graph.
thread_local Node* doomed = nullptr;
thread_local bool destroying = false;

}  // namespace

// ---- GradientScope ------------------------------------------------------------------------------

bool GradientScope::keep(Node* node) {
  const std::lock_guard lock(mutex_);
  if (!open()) return false;
  kept_.emplace_back(node);
  return true;
}

void GradientScope::close() {
  std::vector<NodePtr> kept;
  {
    const std::lock_guard lock(mutex_);
    open_.store(false, std::memory_order_release);
    kept.swap(kept_);
  }
  for (const NodePtr& node : kept) {
    IntrusivePtr<GradientScope> outer = parent_;
    while (outer && !outer->keep(node.get())) outer = outer->parent_;
    if (!outer) node->retire();
  }
}

// ---- NodeInputs ---------------------------------------------------------------------------------

NodeInputs::NodeInputs(std::span<Node* const> inputs) : size_(inputs.size()) {
  Node** target = inline_.data();
  if (size_ > kInline) {
    heap_ = std::make_unique<Node*[]>(size_);
    target = heap_.get();
  }
  for (std::size_t i = 0; i < size_; ++i) {
    inputs[i]->retain();
    target[i] = inputs[i];
  }
}

void NodeInputs::clear() {
  for (Node* input : view()) input->release();
  size_ = 0;
  heap_.reset();
}

// ---- Node ---------------------------------------------------------------------------------------

Node::Node(Operation operation, const TensorSpec& spec, Device device,
           std::span<Node* const> inputs)
    : device_(device), spec_(spec), operation_(std::move(operation)), inputs_(inputs) {}

Node::~Node() = default;

NodePtr Node::make(Operation operation, const TensorSpec& spec, Device device,
                   std::span<Node* const> inputs) {
  NodePtr node = NodePtr::adopt(new Node(std::move(operation), spec, device, inputs));
  GradientScope* innermost = nullptr;
  for (const Node* input : inputs) {
    GradientScope* scope = input->scope_.get();
    while (scope && !scope->open()) scope = scope->parent().get();
    if (scope && (!innermost || scope->depth() > innermost->depth())) innermost = scope;
  }
  if (innermost) node->scope_ = IntrusivePtr<GradientScope>(innermost);
  return node;
}

NodePtr Node::make_leaf(const TensorSpec& spec, Value value) {
  NodePtr node = NodePtr::adopt(new Node(op::Full{}, spec, value.storage->device(), {}));
  node->value_.emplace(std::move(value));
  node->state_.store(kResolved | kRetired | kDropped, std::memory_order_release);
  return node;
}

void Node::destroy(Node* node) {
  node->next_to_destroy_ = std::exchange(doomed, node);
  if (destroying) return;
  destroying = true;
  while (doomed) {
    Node* next = std::exchange(doomed, doomed->next_to_destroy_);
    delete next;
  }
  destroying = false;
}

bool Node::pin() const {
  for (;;) {
    const std::uint32_t before = state_.fetch_add(kReader, std::memory_order_acquire);
    if ((before & kRetired) == 0) return true;
    unpin();
    std::uint32_t state = state_.load(std::memory_order_acquire);
    if ((state & kResolved) != 0) return false;
    if ((state & kRetired) != 0) wait_for_change(state);  // Sealed.
  }
}

void Node::unpin() const {
  const std::uint32_t after = state_.fetch_sub(kReader, std::memory_order_acq_rel) - kReader;
  if ((after & kRetired) != 0) const_cast<Node*>(this)->drop_expression_if_unread();
}

void Node::drop_expression_if_unread() {
  std::uint32_t state = state_.load(std::memory_order_acquire);
  while ((state & (kRetired | kDropped)) == kRetired && state < kReader) {
    if (state_.compare_exchange_weak(state, state | kDropped, std::memory_order_acq_rel)) {
      inputs_.clear();
      return;
    }
  }
}

void Node::retire() {
  state_.fetch_or(kRetired, std::memory_order_acq_rel);
  drop_expression_if_unread();
}

void Node::wait_for_change(std::uint32_t seen) const {
  if ((seen & kWaiting) == 0 &&
      !state_.compare_exchange_strong(seen, seen | kWaiting, std::memory_order_acq_rel)) {
    return;
  }
  state_.wait(seen | kWaiting, std::memory_order_acquire);
}

bool Node::claim() {
  std::uint32_t state = state_.load(std::memory_order_acquire);
  while ((state & kResolved) == 0) {
    if ((state & kClaimed) != 0) {
      wait_for_change(state);
      state = state_.load(std::memory_order_acquire);
    } else if (state_.compare_exchange_weak(state, state | kClaimed, std::memory_order_acq_rel)) {
      return true;
    }
  }
  return false;
}

void Node::wake_waiters(std::uint32_t previous_state) {
  if ((previous_state & kWaiting) != 0) state_.notify_all();
}

void Node::abandon() {
  wake_waiters(state_.fetch_and(~(kClaimed | kWaiting), std::memory_order_acq_rel));
}

bool Node::seal() {
  std::uint32_t state = state_.load(std::memory_order_acquire);
  while (state / kReader == 1) {
    if (state_.compare_exchange_weak(state, state | kRetired, std::memory_order_acq_rel))
      return true;
  }
  return false;
}

void Node::unseal() {
  wake_waiters(state_.fetch_and(~(kRetired | kWaiting), std::memory_order_acq_rel));
}

void Node::resolve(Value value) {
  value_.emplace(std::move(value));
  IntrusivePtr<GradientScope> scope = gradient_scope();
  while (scope && !scope->keep(this)) scope = scope->parent();
  const std::uint32_t flags = scope ? kResolved : kResolved | kRetired;
  wake_waiters(state_.fetch_or(flags, std::memory_order_acq_rel));
  if (!scope) drop_expression_if_unread();
}

IntrusivePtr<GradientScope> Node::gradient_scope() const {
  IntrusivePtr<GradientScope> scope = scope_;
  while (scope && !scope->open()) scope = scope->parent();
  return scope;
}

}  // namespace metal_candle
