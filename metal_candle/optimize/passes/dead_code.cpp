// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// dead_code: an operation without users that is not an output goes, and with it what only it used.
// A dead user would keep other passes from taking an intermediate.
#include "metal_candle/optimize/passes/builtin_passes.h"

namespace metal_candle::passes {
namespace {

class DeadCode final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "dead_code"; }
  [[nodiscard]] bool reusable() const override { return true; }
  bool try_fuse(ComputationGraph& graph, NodeId node) override {
    if (!graph.node(node).users.empty() || graph.node(node).output_uses > 0) return false;
    graph.remove_if_unused(node);
    return true;
  }
};

}  // namespace

PassPtr dead_code() { return std::make_unique<DeadCode>(); }

}  // namespace metal_candle::passes
