// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// elementwise_reduce: what is computed for a reduction alone is computed where it is reduced:
// sum(f(x, g(y))) -> elementwise_reduce(x, y). It is never written, nor read again.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/elementwise_group.h"

namespace metal_candle::passes {
namespace {

class ElementwiseReduceFusion final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "elementwise_reduce"; }
  [[nodiscard]] bool reusable() const override { return true; }
  /// Before what is reduced is a program of its own.
  [[nodiscard]] Order order() const override { return Order::kUsersFirst; }
  [[nodiscard]] OperationSet roots() const override { return OperationSet::of<op::Reduce>(); }

  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    ElementwiseGroup group = ElementwiseGroup::that_is_read_by(graph, id);
    group.grow();
    if (!group.is_program()) return false;
    const TensorSpec spec = graph.node(id).spec;
    const op::ElementwiseReduce fused{{group.program()}, *graph.get_if<op::Reduce>(id)};
    graph.replace(id, graph.add(fused, group.operands(), spec));
    return true;
  }
};

}  // namespace

PassPtr elementwise_reduce() { return std::make_unique<ElementwiseReduceFusion>(); }

}  // namespace metal_candle::passes
