// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Graphs written as expressions, optimised, and compared with themselves before: operation by
// operation, and in the numbers they compute.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/optimize/graph_optimizer.h"

namespace metal_candle::testing {

/// A node of a graph, for writing expressions.
struct Expr {
  ComputationGraph* graph = nullptr;
  NodeId id = kNoNode;

  [[nodiscard]] const TensorSpec& spec() const { return graph->node(id).spec; }
  [[nodiscard]] const Shape& shape() const { return spec().shape; }
};

Expr apply(const Operation& operation, const std::vector<Expr>& operands,
           const TensorSpec& requested = {});
Expr unary(UnaryKind kind, Expr x);
Expr binary(BinaryKind kind, Expr a, Expr b);
/// A constant of x's dtype without dimensions.
Expr constant(Expr x, double value);

Expr operator+(Expr a, Expr b);
Expr operator-(Expr a, Expr b);
Expr operator*(Expr a, Expr b);
Expr operator/(Expr a, Expr b);
Expr operator+(Expr a, double b);
Expr operator*(Expr a, double b);
Expr operator/(Expr a, double b);
Expr operator+(double a, Expr b);
Expr operator*(double a, Expr b);
Expr operator/(double a, Expr b);
Expr operator-(Expr x);
Expr power(Expr x, double exponent);
Expr exp(Expr x);
Expr log(Expr x);
Expr sqrt(Expr x);
Expr rsqrt(Expr x);
Expr square(Expr x);
Expr tanh(Expr x);
Expr erf(Expr x);
Expr cast(Expr x, DType dtype);
Expr reduce(ReduceKind kind, Expr x, int axis, bool keepdims = true);
Expr sum(Expr x, int axis, bool keepdims = true);
Expr max(Expr x, int axis, bool keepdims = true);
/// Of the last axis, which is kept; as a sum times a constant.
Expr mean(Expr x);
Expr matmul(Expr a, Expr b);
Expr reshape(Expr x, const Shape& shape);
Expr broadcast(Expr x, const Shape& shape);
Expr transpose(Expr x, const Axes& permutation);
Expr where(Expr condition, Expr a, Expr b);
Expr take_along_axis(Expr x, Expr indices, int axis);

/// A test with one graph.
class GraphTest : public ::testing::Test {
 protected:
  Expr input(const Shape& shape, DType dtype = DType::kF32);
  /// Integers in [0, limit).
  Expr indices(const Shape& shape, std::int64_t limit);
  void output(Expr x) { graph_.add_output(x.id); }
  /// Begins anew with an empty graph.
  void reset() {
    graph_ = ComputationGraph();
    index_limits_.clear();
  }

  /// Optimises, checks that the graph is well formed and computes what it did before, and returns
  /// the report.
  OptimizationReport optimize(const GraphOptimizer& optimizer = GraphOptimizer(PassSet::all()));
  /// Names of the operations left, in order, without inputs and picks.
  [[nodiscard]] std::vector<std::string> operations() const;
  /// The operation of the only node of type T.
  template <typename T>
  [[nodiscard]] T the() const {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (const T* found = graph_.get_if<T>(id)) return *found;
    }
    ADD_FAILURE() << "there is no such operation in\n" << graph_.to_text();
    return T{};
  }

  ComputationGraph graph_;
  std::string before_;  // Dump before optimize().
  /// What optimize() allows outputs to differ by.
  double tolerance_ = 1e-5;

 private:
  std::vector<std::int64_t> index_limits_;  // One an input; 0 for any value.
};

/// Checks use lists, liveness and topological order.
void expect_well_formed(const ComputationGraph& graph);

}  // namespace metal_candle::testing
