// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// swiglu_product: the gradient of a gated layer takes in the product that it is of, where nothing
// else reads that and it is of 16 bits:
//
//   swiglu_backward(gate, up, a @ b) -> swiglu_backward of the product (gate, up, a, b)
#include "metal_candle/optimize/passes/builtin_passes.h"

namespace metal_candle::passes {
namespace {

class SwiGluProduct final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "swiglu_product"; }
  [[nodiscard]] OperationSet roots() const override {
    return OperationSet::of<op::SwiGluBackward>();
  }

  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    const GraphNode& node = graph.node(id);
    const NodeId dy = node.inputs[2];
    if (graph.get_if<op::SwiGluBackward>(id)->of_product || size_of(node.spec.dtype) != 2 ||
        graph.get_if<op::Matmul>(dy) == nullptr || !graph.has_one_use(dy)) {
      return false;
    }
    const GraphNode& product = graph.node(dy);
    const Shape& left = graph.node(product.inputs[0]).spec.shape;
    if (graph.node(product.inputs[1]).spec.shape.rank() != 2 || left.back() == 0) return false;
    const std::vector<NodeId> inputs = {node.inputs[0], node.inputs[1], product.inputs[0],
                                        product.inputs[1]};
    graph.replace(id, graph.add(op::SwiGluBackward{true}, inputs));
    return true;
  }
};

}  // namespace

PassPtr swiglu_product() { return std::make_unique<SwiGluProduct>(); }

}  // namespace metal_candle::passes
