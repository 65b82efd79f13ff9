// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// lora_low: scale * (x @ a), which the gradient of a LoRA layer needs, -> what the layer itself
// computed on its way:
//
//   y = lora_linear(x, w, a, b), u = scale * (x @ a)  ->  y, u = lora_linear(x, w, a, b)
#include <algorithm>

#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

class LoraLow final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "lora_low"; }
  [[nodiscard]] OperationSet roots() const override {
    return OperationSet::of<op::Matmul, op::Linear>();
  }

  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    const GraphNode& product = graph.node(id);
    float scale = 1;
    if (const auto* linear = graph.get_if<op::Linear>(id)) {
      if (*linear != op::Linear{op::Activation::kNone, false, false, linear->scale}) return false;
      scale = linear->scale;
    }
    const NodeId x = product.inputs[0], a = product.inputs[1];
    // Who reads `a` are the layer and its gradient; who reads x may be many.
    const std::vector<NodeId>& users = graph.node(a).users;
    const auto layer = std::find_if(users.begin(), users.end(), [&](NodeId user) {
      const auto* lora = graph.get_if<op::LoraLinear>(user);
      return lora != nullptr && !lora->keeps_low && lora->scale == scale &&
             graph.node(user).inputs[0] == x && graph.node(user).inputs[2] == a;
    });
    if (layer == users.end()) return false;
    const NodeId old = *layer;
    op::LoraLinear keeping = *graph.get_if<op::LoraLinear>(old);
    keeping.keeps_low = true;
    const TensorSpec spec = graph.node(old).spec, low_spec = product.spec;
    const std::vector<NodeId> inputs = graph.node(old).inputs;
    const NodeId fused = graph.add(keeping, inputs);
    graph.replace(old, pick(graph, fused, 0, spec));
    graph.replace(id, pick(graph, fused, 1, low_spec));
    return true;
  }
};

}  // namespace

PassPtr lora_low() { return std::make_unique<LoraLow>(); }

}  // namespace metal_candle::passes
