// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The driver: linear in the size of the graph, stops passes that do not, reports.
#include "metal_candle/optimize/graph_optimizer.h"

#include "metal_candle/core/error.h"
#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::HasSubstr;

/// The tests below count visits and print seconds, because seconds depend on who else computes.
class LinearTimeTest : public ::testing::Test {
 protected:
  static constexpr int kNodes = 100'000;

  void expect_linear(const char* what) {
    const NodeId before = graph_.live_size();
    const OptimizationReport report = GraphOptimizer(PassSet::all()).run(graph_);
    std::printf("%s: %s", what, report.to_string().c_str());
    EXPECT_GE(before, kNodes);
    // Five runs of stages, and a few visits for each rewrite.
    EXPECT_LE(report.visits, std::int64_t{20} * before);
    EXPECT_LT(report.seconds, 30) << "not linear in the graph's size";
  }
  NodeId input(const Shape& shape) {
    return graph_.add_input(TensorLayout::contiguous({shape, DType::kF32}));
  }
  NodeId scalar(double value) {
    return graph_.add(op::Full{Scalar::from_real(value)}, {}, {Shape{}, DType::kF32});
  }

  ComputationGraph graph_;
};

TEST_F(LinearTimeTest, AChain) {
  NodeId x = input({4});
  for (int i = 0; i < kNodes; ++i) x = graph_.add(op::Unary{UnaryKind::kTanh}, {x});
  graph_.add_output(x);
  expect_linear("chain");
}

TEST_F(LinearTimeTest, ManyNorms) {
  NodeId x = input({4, 8});
  const NodeId w = input({8});
  while (graph_.size() < kNodes) {
    const NodeId square = graph_.add(op::Binary{BinaryKind::kMultiply}, {x, x});
    const NodeId sum = graph_.add(op::Reduce{ReduceKind::kSum, {1}, true}, {square});
    const NodeId mean = graph_.add(op::Binary{BinaryKind::kMultiply}, {sum, scalar(0.125)});
    const NodeId shifted = graph_.add(op::Binary{BinaryKind::kAdd}, {mean, scalar(1e-5)});
    const NodeId inverse = graph_.add(op::Unary{UnaryKind::kRsqrt}, {shifted});
    const NodeId norm = graph_.add(op::Binary{BinaryKind::kMultiply}, {x, inverse});
    x = graph_.add(op::Binary{BinaryKind::kMultiply}, {norm, w});
  }
  graph_.add_output(x);
  expect_linear("norms");
}

TEST_F(LinearTimeTest, OneNodeWithAllTheUsers) {
  const NodeId x = input({4});
  std::vector<NodeId> level;
  for (int i = 0; i < kNodes / 3; ++i) {
    const NodeId product = graph_.add(op::Binary{BinaryKind::kMultiply}, {x, scalar(2 + i)});
    level.push_back(graph_.add(op::Unary{UnaryKind::kTanh}, {product}));
  }
  while (level.size() > 1) {
    std::vector<NodeId> next;
    for (std::size_t i = 0; i + 1 < level.size(); i += 2) {
      next.push_back(graph_.add(op::Binary{BinaryKind::kAdd}, {level[i], level[i + 1]}));
    }
    if (level.size() % 2 == 1) next.push_back(level.back());
    level = std::move(next);
  }
  graph_.add_output(level[0]);
  expect_linear("hub");
}

TEST_F(LinearTimeTest, TheSameExpressionOverAndOver) {
  const NodeId x = input({4});
  NodeId total = x;
  while (graph_.size() < kNodes) {
    const NodeId e = graph_.add(op::Unary{UnaryKind::kExp}, {x});
    total = graph_.add(op::Binary{BinaryKind::kAdd}, {total, e});
  }
  graph_.add_output(total);
  expect_linear("duplicates");
}

TEST_F(LinearTimeTest, AllDead) {
  NodeId x = input({4});
  const NodeId kept = graph_.add(op::Unary{UnaryKind::kTanh}, {x});
  for (int i = 0; i < kNodes; ++i) graph_.add(op::Unary{UnaryKind::kExp}, {x});
  graph_.add_output(kept);
  expect_linear("dead");
}

class GraphOptimizerTest : public GraphTest {};

/// Swaps the operands of additions, for ever.
class Restless final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "restless"; }
  [[nodiscard]] OperationSet roots() const override { return OperationSet::of<op::Binary>(); }
  bool try_fuse(ComputationGraph& graph, NodeId node) override {
    const NodeId a = graph.node(node).inputs[0];
    const NodeId b = graph.node(node).inputs[1];
    graph.replace(node, graph.add(op::Binary{BinaryKind::kAdd}, {b, a}));
    return true;
  }
};

TEST_F(GraphOptimizerTest, PassesThatDoNotSettleAreNamed) {
  output(input({2}) + input({2}));
  const GraphOptimizer optimizer(
      {{"restless", OptimizerStage::kCompose, [] { return std::make_unique<Restless>(); }}});
  try {
    optimizer.run(graph_);
    FAIL() << "ran to an end";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("restless"));
  }
}

TEST_F(GraphOptimizerTest, NoPassesChangeNothingButDropTheDead) {
  const Expr x = input({2});
  static_cast<void>(exp(x));
  output(x * 1.0);
  const OptimizationReport report = optimize(GraphOptimizer(PassSet::none()));
  EXPECT_EQ(operations(), (std::vector<std::string>{"full", "multiply"}));
  EXPECT_TRUE(report.passes.empty());
  EXPECT_EQ(report.visits, 0);
}

TEST_F(GraphOptimizerTest, Reports) {
  const Expr x = input({2, 4});
  const Expr e = exp(x);
  output(e / sum(e, 1));
  const OptimizationReport report = optimize();
  EXPECT_EQ(report.nodes_before, 4);
  EXPECT_EQ(report.nodes_after, 2);
  EXPECT_EQ(report.rewrites("softmax"), 1);
  EXPECT_EQ(report.rewrites("attention"), 0);
  EXPECT_THAT(report.to_string(), HasSubstr("softmax                1 rewrite\n"));
  EXPECT_THAT(report.to_string(), ::testing::Not(HasSubstr("attention")));
}

TEST_F(GraphOptimizerTest, InputsAndOutputsOfAGraphStayAsTheyAre) {
  const Expr x = input({2});
  input({3});
  output(x);
  output(exp(x));
  output(x);
  optimize();
  EXPECT_EQ(graph_.inputs().size(), 2u);
  EXPECT_EQ(graph_.outputs().size(), 3u);
  EXPECT_EQ(graph_.outputs()[0], graph_.outputs()[2]);
}

}  // namespace
}  // namespace metal_candle::testing
