// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "tests/optimize/graph_fixture.h"

#include <algorithm>
#include <random>

#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing {

Expr apply(const Operation& operation, const std::vector<Expr>& operands,
           const TensorSpec& requested) {
  std::vector<NodeId> ids;
  for (const Expr& operand : operands) ids.push_back(operand.id);
  ComputationGraph* graph = operands.at(0).graph;
  return {graph, graph->add(operation, ids, requested)};
}
Expr unary(UnaryKind kind, Expr x) { return apply(op::Unary{kind}, {x}); }
Expr binary(BinaryKind kind, Expr a, Expr b) { return apply(op::Binary{kind}, {a, b}); }
Expr constant(Expr x, double value) {
  const DType dtype = x.spec().dtype;
  const Scalar scalar = is_floating(dtype) ? Scalar::from_real(value)
                                           : Scalar::from_integer(static_cast<std::int64_t>(value));
  return {x.graph, x.graph->add(op::Full{scalar}, {}, {Shape{}, dtype})};
}

Expr operator+(Expr a, Expr b) { return binary(BinaryKind::kAdd, a, b); }
Expr operator-(Expr a, Expr b) { return binary(BinaryKind::kSubtract, a, b); }
Expr operator*(Expr a, Expr b) { return binary(BinaryKind::kMultiply, a, b); }
Expr operator/(Expr a, Expr b) { return binary(BinaryKind::kDivide, a, b); }
Expr operator+(Expr a, double b) { return a + constant(a, b); }
Expr operator*(Expr a, double b) { return a * constant(a, b); }
Expr operator/(Expr a, double b) { return a / constant(a, b); }
Expr operator+(double a, Expr b) { return constant(b, a) + b; }
Expr operator*(double a, Expr b) { return constant(b, a) * b; }
Expr operator/(double a, Expr b) { return constant(b, a) / b; }
Expr operator-(Expr x) { return unary(UnaryKind::kNegative, x); }
Expr power(Expr x, double exponent) { return binary(BinaryKind::kPower, x, constant(x, exponent)); }
Expr exp(Expr x) { return unary(UnaryKind::kExp, x); }
Expr log(Expr x) { return unary(UnaryKind::kLog, x); }
Expr sqrt(Expr x) { return unary(UnaryKind::kSqrt, x); }
Expr rsqrt(Expr x) { return unary(UnaryKind::kRsqrt, x); }
Expr square(Expr x) { return unary(UnaryKind::kSquare, x); }
Expr tanh(Expr x) { return unary(UnaryKind::kTanh, x); }
Expr erf(Expr x) { return unary(UnaryKind::kErf, x); }
Expr cast(Expr x, DType dtype) { return apply(op::Cast{}, {x}, {x.shape(), dtype}); }
Expr reduce(ReduceKind kind, Expr x, int axis, bool keepdims) {
  return apply(op::Reduce{kind, {axis}, keepdims}, {x});
}
Expr sum(Expr x, int axis, bool keepdims) { return reduce(ReduceKind::kSum, x, axis, keepdims); }
Expr max(Expr x, int axis, bool keepdims) { return reduce(ReduceKind::kMax, x, axis, keepdims); }
Expr mean(Expr x) {
  return sum(x, x.shape().rank() - 1) * (1.0 / static_cast<double>(x.shape().back()));
}
Expr matmul(Expr a, Expr b) { return apply(op::Matmul{}, {a, b}); }
Expr reshape(Expr x, const Shape& shape) {
  return apply(op::Reshape{}, {x}, {shape, x.spec().dtype});
}
Expr broadcast(Expr x, const Shape& shape) {
  return apply(op::Broadcast{}, {x}, {shape, x.spec().dtype});
}
Expr transpose(Expr x, const Axes& permutation) { return apply(op::Transpose{permutation}, {x}); }
Expr where(Expr condition, Expr a, Expr b) { return apply(op::Select{}, {condition, a, b}); }
Expr take_along_axis(Expr x, Expr indices, int axis) {
  return apply(op::TakeAlongAxis{axis}, {x, indices});
}

Expr GraphTest::input(const Shape& shape, DType dtype) {
  index_limits_.push_back(0);
  return {&graph_, graph_.add_input(TensorLayout::contiguous({shape, dtype}))};
}

Expr GraphTest::indices(const Shape& shape, std::int64_t limit) {
  const Expr x = input(shape, DType::kI32);
  index_limits_.back() = limit;
  return x;
}

OptimizationReport GraphTest::optimize(const GraphOptimizer& optimizer) {
  std::mt19937 random(20260101);
  std::uniform_real_distribution<double> uniform(-2, 2);
  std::vector<HostTensor> values;
  for (std::size_t i = 0; i < graph_.inputs().size(); ++i) {
    const TensorLayout& layout = graph_.input_layouts()[i];
    HostTensor value(TensorSpec{layout.shape, layout.dtype});
    const std::int64_t limit = layout.dtype == DType::kBool ? 2
                               : index_limits_[i] > 0       ? index_limits_[i]
                                                            : 5;
    for (double& v : value.real) v = round_to(uniform(random), layout.dtype);
    for (std::int64_t& v : value.integer) v = static_cast<std::int64_t>(random()) % limit;
    values.push_back(std::move(value));
  }
  before_ = graph_.to_text();
  const std::vector<HostTensor> expected = interpret(graph_, values);
  OptimizationReport report = optimizer.run(graph_);
  const std::string dumps = before_ + "became\n" + graph_.to_text() + report.to_string();
  expect_well_formed(graph_);
  const std::vector<HostTensor> actual = interpret(graph_, values);
  EXPECT_EQ(actual.size(), expected.size()) << dumps;
  for (std::size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    EXPECT_TRUE(all_close(actual[i], expected[i], Tolerance{tolerance_, tolerance_})) << dumps;
  }
  return report;
}

std::vector<std::string> GraphTest::operations() const {
  std::vector<std::string> names;
  for (NodeId id = 0; id < graph_.size(); ++id) {
    const GraphNode& node = graph_.node(id);
    if (node.dead || node.is_input() || graph_.get_if<op::Pick>(id) != nullptr) continue;
    names.emplace_back(name(node.operation));
  }
  return names;
}

void expect_well_formed(const ComputationGraph& graph) {
  std::vector<int> uses(static_cast<std::size_t>(graph.size()), 0);
  for (NodeId id = 0; id < graph.size(); ++id) {
    const GraphNode& node = graph.node(id);
    ASSERT_FALSE(node.dead) << id;
    for (const NodeId used : node.inputs) {
      ASSERT_LT(used, id) << "not in topological order\n" << graph.to_text();
      ++uses[static_cast<std::size_t>(used)];
      ASSERT_THAT(graph.node(used).users, ::testing::Contains(id));
    }
  }
  for (NodeId id = 0; id < graph.size(); ++id) {
    ASSERT_EQ(graph.node(id).users.size(),
              static_cast<std::size_t>(uses[static_cast<std::size_t>(id)]));
  }
}

}  // namespace metal_candle::testing
