// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// elementwise: a tree or DAG of elementwise operations of one shape, of which only the last is used
// elsewhere, becomes one program: f(g(x), h(g(x), y)) -> elementwise(x, y).
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/elementwise_group.h"

namespace metal_candle::passes {
namespace {

class ElementwiseFusion final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "elementwise"; }
  [[nodiscard]] bool reusable() const override { return true; }
  /// So that a node is offered only after each group that it could have joined.
  [[nodiscard]] Order order() const override { return Order::kUsersFirst; }
  [[nodiscard]] OperationSet roots() const override {
    return OperationSet::of<op::Unary, op::Binary, op::Select, op::Cast, op::SwiGlu,
                            op::Elementwise>();
  }

  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    ElementwiseGroup group = ElementwiseGroup::that_ends_in(graph, id);
    group.grow();
    const bool worth_it = group.instructions() > instructions_of(graph.node(id).operation);
    if (!worth_it || !group.is_program()) return false;
    const TensorSpec spec = graph.node(id).spec;
    graph.replace(id, graph.add(op::Elementwise{group.program()}, group.operands(), spec));
    return true;
  }
};

}  // namespace

PassPtr elementwise() { return std::make_unique<ElementwiseFusion>(); }

}  // namespace metal_candle::passes
