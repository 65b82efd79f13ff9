// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A node of the lazy graph: an expression (operation and inputs) that is at some time replaced by
// its value. Tensor is the handle that users hold.
//
// Concurrency. Shape, dtype and device never change. The state word packs flags with a count of
// readers: whoever reads the expression pins it first (one atomic add), so that the thread which
// attaches the value never frees the inputs under a reader; the last one out does. Nothing here
// takes a lock, but for the rare node evaluated inside a function being differentiated.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "metal_candle/core/device.h"
#include "metal_candle/core/intrusive_ptr.h"
#include "metal_candle/core/recycled.h"
#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/storage.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle {

class Node;
using NodePtr = IntrusivePtr<Node>;

/// While a function is being differentiated, nodes that depend on its arguments keep their
/// expressions even when evaluated, because the gradient is found by walking them. Scopes nest for
/// higher orders.
class GradientScope : public RefCounted {
 public:
  explicit GradientScope(IntrusivePtr<GradientScope> parent)
      : parent_(std::move(parent)), depth_(parent_ ? parent_->depth_ + 1 : 0) {}
  [[nodiscard]] bool open() const { return open_.load(std::memory_order_acquire); }
  [[nodiscard]] int depth() const { return depth_; }
  [[nodiscard]] const IntrusivePtr<GradientScope>& parent() const { return parent_; }
  /// Ends the scope: expressions that it kept are dropped, but for those that an outer scope keeps.
  void close();

 private:
  friend class Node;
  /// Takes note of a node that keeps its expression; false when the scope is closed.
  bool keep(Node* node);

  IntrusivePtr<GradientScope> parent_;
  int depth_;
  std::atomic<bool> open_{true};
  std::mutex mutex_;
  std::vector<NodePtr> kept_;
};

/// The inputs of a node: few, so held inline; concatenate may have many.
class NodeInputs {
 public:
  explicit NodeInputs(std::span<Node* const> inputs);
  ~NodeInputs() { clear(); }
  NodeInputs(const NodeInputs&) = delete;
  NodeInputs& operator=(const NodeInputs&) = delete;
  [[nodiscard]] std::span<Node* const> view() const {
    return {size_ <= kInline ? inline_.data() : heap_.get(), size_};
  }
  /// Releases them all.
  void clear();

 private:
  static constexpr std::size_t kInline = 4;
  std::size_t size_;
  std::array<Node*, kInline> inline_;
  std::unique_ptr<Node*[]> heap_;
};

class Node : public Recycled<Node> {
 public:
  /// A pending node. `spec` is that of output 0 when the operation has several (reached through
  /// Pick).
  static NodePtr make(Operation operation, const TensorSpec& spec, Device device,
                      std::span<Node* const> inputs);
  /// An evaluated node: a leaf.
  static NodePtr make_leaf(const TensorSpec& spec, Value value);

  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  void retain() const { references_.fetch_add(1, std::memory_order_relaxed); }
  /// Frees without recursion, however long the chain below.
  void release() const {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(const_cast<Node*>(this));
  }
  [[nodiscard]] std::uint32_t use_count() const {
    return references_.load(std::memory_order_acquire);
  }

  [[nodiscard]] const TensorSpec& spec() const { return spec_; }
  [[nodiscard]] Device device() const { return device_; }

  /// Has a value (which may still be being computed: see Storage::completion()).
  [[nodiscard]] bool resolved() const {
    return (state_.load(std::memory_order_acquire) & kResolved) != 0;
  }
  /// The value of a resolved node. Never changes once there.
  [[nodiscard]] const Value& value() const { return *value_; }

  /// Pins the expression if it is still there. A resolved node may still have it (see
  /// GradientScope); evaluation should ask resolved() first. Call unpin() exactly once if this
  /// returned true.
  [[nodiscard]] bool pin() const;
  void unpin() const;
  /// Only while pinned.
  [[nodiscard]] const Operation& operation() const { return operation_; }
  [[nodiscard]] std::span<Node* const> inputs() const { return inputs_.view(); }

  /// Reserves the right to evaluate. True: the caller must resolve() or abandon(). False: already
  /// resolved. Blocks while another thread holds the claim. To claim several nodes, do so in order
  /// of address.
  [[nodiscard]] bool claim();
  void abandon();
  /// Refuses further readers, so that memory which only this expression reaches may be overwritten.
  /// Only by the holder of the claim, who is the one reader; false if there are others. Until
  /// resolve() or unseal(), pin() by other threads blocks.
  [[nodiscard]] bool seal();
  void unseal();
  /// Attaches the value and, unless a gradient scope needs it, drops the expression.
  void resolve(Value value);

  /// The innermost open scope this node belongs to, or null.
  [[nodiscard]] IntrusivePtr<GradientScope> gradient_scope() const;
  void set_gradient_scope(IntrusivePtr<GradientScope> scope) { scope_ = std::move(scope); }

 private:
  friend class GradientScope;
  Node(Operation operation, const TensorSpec& spec, Device device, std::span<Node* const> inputs);
  ~Node();
  static void destroy(Node* node);
  void retire();
  void drop_expression_if_unread();
  void wake_waiters(std::uint32_t previous_state);
  /// Blocks until the state is no longer `seen` in its flags.
  void wait_for_change(std::uint32_t seen) const;

  static constexpr std::uint32_t kResolved = 1;  // value_ is there.
  static constexpr std::uint32_t kClaimed = 2;   // Some thread is evaluating it.
  static constexpr std::uint32_t kWaiting = 4;   // Some thread waits in claim().
  static constexpr std::uint32_t kRetired = 8;   // New readers are refused.
  static constexpr std::uint32_t kDropped = 16;  // The inputs are gone.
  static constexpr std::uint32_t kReader = 32;   // One reader.

  mutable std::atomic<std::uint32_t> references_{1};
  mutable std::atomic<std::uint32_t> state_{0};
  Device device_;
  TensorSpec spec_;
  Operation operation_;
  NodeInputs inputs_;
  std::optional<Value> value_;
  IntrusivePtr<GradientScope> scope_;
  Node* next_to_destroy_ = nullptr;
};

}  // namespace metal_candle
