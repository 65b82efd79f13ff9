// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// linear_cross_entropy: the cross entropy of a product, and its gradients, without ever holding all
// logits; with logits = x @ weight, a weight of two dimensions, possibly reshaped row by row or
// cast:
//
//   cross_entropy(logits, targets)             -> linear_cross_entropy(x, weight, targets)
//   d = cross_entropy_backward(logits, ..)
//     d @ weight^T                             -> dx of linear_cross_entropy_backward(x, weight,
//     ..) rows(x)^T @ rows(d)                      -> its dweight
//
// All of it or nothing: only where nothing else uses the logits or d, which is how
// value_and_grad(cross_entropy(x @ weight, targets)) uses them.
#include <algorithm>
#include <optional>
#include <vector>

#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

/// Whether the node gives the rows of its operand: reshaped, or cast between floating dtypes.
bool passes_rows_on(const ComputationGraph& graph, NodeId id) {
  if (graph.node(id).is_input()) return false;
  const TensorSpec& to = graph.node(id).spec;
  if (graph.get_if<op::Cast>(id) != nullptr) {
    return is_floating(to.dtype) && is_floating(graph.node(graph.node(id).inputs[0]).spec.dtype);
  }
  if (graph.get_if<op::Reshape>(id) == nullptr) return false;
  const Shape& from = graph.node(graph.node(id).inputs[0]).spec.shape;
  return !to.shape.empty() && !from.empty() && to.shape.back() == from.back();
}

/// `id` without what passes rows on.
NodeId source_of_rows(const ComputationGraph& graph, NodeId id) {
  while (passes_rows_on(graph, id)) id = graph.node(id).inputs[0];
  return id;
}

bool is_transpose_of(const ComputationGraph& graph, NodeId a, NodeId b) {
  const auto* transpose = graph.get_if<op::Transpose>(a);
  return transpose != nullptr && transpose->permutation == Axes{1, 0} &&
         graph.node(a).inputs[0] == b;
}

/// What the pass finds around one cross entropy.
class Neighbourhood {
 public:
  Neighbourhood(const ComputationGraph& graph, NodeId loss)
      : graph_(graph), loss_(loss), targets_(graph.node(loss).inputs[1]) {}

  /// Whether all of it can be rewritten.
  bool explore() {
    const NodeId product = source_of_rows(graph_, graph_.node(loss_).inputs[0]);
    if (graph_.get_if<op::Matmul>(product) == nullptr || graph_.node(targets_).spec.shape.empty()) {
      return false;
    }
    x_ = graph_.node(product).inputs[0];
    weight_ = graph_.node(product).inputs[1];
    return graph_.node(weight_).spec.shape.rank() == 2 &&
           is_floating(graph_.node(product).spec.dtype) && only_losses_use(product);
  }

  void rewrite(ComputationGraph& graph) const {
    const std::int64_t ignore = graph.get_if<op::CrossEntropy>(loss_)->ignore_index;
    const Shape rows = graph.node(targets_).spec.shape;
    Shape x_shape = rows;
    x_shape.push_back(graph.node(x_).spec.shape.back());
    const NodeId x = as_shape(graph, x_, x_shape);
    const TensorSpec x_spec = graph.node(x).spec, weight_spec = graph.node(weight_).spec;
    const NodeId fused = graph.add(op::LinearCrossEntropy{ignore}, {x, weight_, targets_});
    const NodeId logsumexp = pick(graph, fused, 1, {rows, DType::kF32});
    for (const Backward& backward : backwards_) {
      const NodeId dloss = graph.node(backward.node).inputs[3];
      const NodeId gradients = graph.add(op::LinearCrossEntropyBackward{ignore},
                                         {x, weight_, targets_, logsumexp, dloss});
      for (const NodeId dx : backward.dx) {
        const Shape shape = graph.node(dx).spec.shape;
        graph.replace(dx, as_shape(graph, pick(graph, gradients, 0, x_spec), shape));
      }
      for (const NodeId dweight : backward.dweight) {
        graph.replace(dweight, pick(graph, gradients, 1, weight_spec));
      }
    }
    graph.replace(loss_, fused);
    graph.remove_if_unused(logsumexp);
  }

 private:
  struct Backward {
    NodeId node;
    std::vector<NodeId> dx, dweight;
  };

  /// Whether the logits go into this loss and its gradient alone.
  bool only_losses_use(NodeId logits) {
    const GraphNode& node = graph_.node(logits);
    return node.output_uses == 0 &&
           std::all_of(node.users.begin(), node.users.end(), [&](NodeId user) {
             if (user == loss_) return true;
             return passes_rows_on(graph_, user) ? only_losses_use(user) : is_our_backward(user);
           });
  }

  bool is_our_backward(NodeId id) {
    const auto* operation = graph_.get_if<op::CrossEntropyBackward>(id);
    if (operation == nullptr) return false;
    const std::vector<NodeId>& inputs = graph_.node(id).inputs;
    const auto* picked = graph_.get_if<op::Pick>(inputs[2]);
    if (operation->ignore_index != graph_.get_if<op::CrossEntropy>(loss_)->ignore_index ||
        inputs[1] != targets_ || picked == nullptr || picked->index != 1 ||
        graph_.node(inputs[2]).inputs[0] != loss_) {
      return false;
    }
    Backward backward{id, {}, {}};
    if (!only_products_use(id, backward)) return false;
    backwards_.push_back(std::move(backward));
    return true;
  }

  /// Whether the gradient of the logits goes into those of x and weight alone.
  bool only_products_use(NodeId dlogits, Backward& backward) const {
    const GraphNode& node = graph_.node(dlogits);
    return node.output_uses == 0 &&
           std::all_of(node.users.begin(), node.users.end(), [&](NodeId user) {
             if (passes_rows_on(graph_, user)) return only_products_use(user, backward);
             if (is_dx(user, dlogits)) {
               backward.dx.push_back(user);
             } else if (is_dweight(user, dlogits)) {
               backward.dweight.push_back(user);
             } else {
               return false;
             }
             return true;
           });
  }

  bool is_dx(NodeId id, NodeId dlogits) const {
    if (graph_.get_if<op::Matmul>(id) == nullptr) return false;
    const std::vector<NodeId>& inputs = graph_.node(id).inputs;
    return inputs[0] == dlogits && graph_.node(id).spec.dtype == graph_.node(x_).spec.dtype &&
           (is_transpose_of(graph_, inputs[1], weight_) ||
            is_transpose_of(graph_, weight_, inputs[1]));
  }

  bool is_dweight(NodeId id, NodeId dlogits) const {
    if (graph_.get_if<op::Matmul>(id) == nullptr) return false;
    const std::vector<NodeId>& inputs = graph_.node(id).inputs;
    const auto* transpose = graph_.get_if<op::Transpose>(inputs[0]);
    return inputs[1] == dlogits && graph_.node(id).spec == graph_.node(weight_).spec &&
           transpose != nullptr && transpose->permutation == Axes{1, 0} &&
           is_reshape_of(graph_.node(inputs[0]).inputs[0], x_);
  }

  /// Whether `a` is `b` as rows; dtypes alike.
  bool is_reshape_of(NodeId a, NodeId b) const {
    const auto origin = [&](NodeId id) {
      while (graph_.get_if<op::Reshape>(id) != nullptr && passes_rows_on(graph_, id)) {
        id = graph_.node(id).inputs[0];
      }
      return id;
    };
    return origin(a) == origin(b);
  }

  const ComputationGraph& graph_;
  const NodeId loss_, targets_;
  NodeId x_ = kNoNode, weight_ = kNoNode;
  std::vector<Backward> backwards_;
};

class LinearCrossEntropyFusion final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "linear_cross_entropy"; }
  [[nodiscard]] OperationSet roots() const override { return OperationSet::of<op::CrossEntropy>(); }

  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    Neighbourhood neighbourhood(graph, id);
    if (!neighbourhood.explore()) return false;
    neighbourhood.rewrite(graph);
    return true;
  }
};

}  // namespace

PassPtr linear_cross_entropy() { return std::make_unique<LinearCrossEntropyFusion>(); }

}  // namespace metal_candle::passes
