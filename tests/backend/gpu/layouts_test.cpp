// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Values that lie as their readers want them: plans for GPUs, whose kernels of attention and of
// rotary embeddings write rows in any order.
#include "metal_candle/execute/layouts.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "metal_candle/execute/plan.h"
#include "tests/gpu_sim/sim_backend.h"

namespace metal_candle {
namespace {

constexpr std::int64_t kBatch = 2, kHeads = 4, kLength = 6, kWidth = 8;

op::Transpose heads_last() {
  op::Transpose transpose;
  for (const int axis : {0, 2, 1, 3}) transpose.permutation.push_back(axis);
  return transpose;
}

NodeId input(ComputationGraph& graph, const Shape& shape, DType dtype = DType::kF32) {
  return graph.add_input(TensorLayout::contiguous({shape, dtype}));
}

// [batch, heads, length, width] turned.
NodeId add_rope(ComputationGraph& graph) {
  op::Rope rope;
  rope.dims = kWidth;
  return graph.add(rope, {input(graph, {kBatch, kHeads, kLength, kWidth}),
                          input(graph, {}, DType::kI32), input(graph, {kWidth / 2})});
}

NodeId add_attention(ComputationGraph& graph) {
  const Shape shape{kBatch, kHeads, kLength, kWidth};
  op::Attention attention;
  attention.scale = 1.0f;
  return graph.add(attention, {input(graph, shape), input(graph, shape), input(graph, shape)});
}

NodeId add_joined(ComputationGraph& graph, NodeId heads) {
  const NodeId transposed = graph.add(heads_last(), {heads});
  return graph.add(op::Reshape{}, {transposed},
                   {{kBatch, kLength, kHeads * kWidth}, graph.node(heads).spec.dtype});
}

std::size_t steps_of(const ComputationGraph& graph) {
  return make_plan(graph, gpu_sim::sim_backend()).steps.size();
}

TEST(Layouts, HeadsAreJoinedWithoutACopy) {
  ComputationGraph graph;
  graph.add_output(add_joined(graph, add_rope(graph)));
  EXPECT_EQ(steps_of(graph), 1u);
}

TEST(Layouts, OutputsOfSeveral) {
  ComputationGraph graph;
  const NodeId attention = add_attention(graph);
  const NodeId out =
      graph.add(op::Pick{0}, {attention}, {{kBatch, kHeads, kLength, kWidth}, DType::kF32});
  graph.add_output(add_joined(graph, out));
  graph.add_output(graph.add(op::Pick{1}, {attention}, {{kBatch, kHeads, kLength}, DType::kF32}));
  EXPECT_EQ(steps_of(graph), 1u);
}

TEST(Layouts, AllReshapesOfOneTransposeAreViews) {
  ComputationGraph graph;
  const NodeId transposed = graph.add(heads_last(), {add_rope(graph)});
  for (const Shape& shape :
       {Shape{kBatch, kLength, kHeads * kWidth}, Shape{kBatch * kLength, kHeads * kWidth}}) {
    graph.add_output(graph.add(op::Reshape{}, {transposed}, {shape, DType::kF32}));
  }
  EXPECT_EQ(steps_of(graph), 1u);
}

// Who has to copy is the reader that wants something else.
TEST(Layouts, AnotherReaderThatWouldCopyKeepsAValueContiguous) {
  ComputationGraph graph;
  const NodeId turned = add_rope(graph);
  graph.add_output(add_joined(graph, turned));
  graph.add_output(
      graph.add(op::Reshape{}, {turned}, {{kBatch * kHeads, kLength * kWidth}, DType::kF32}));
  EXPECT_FALSE(layout_for_readers(graph, turned, gpu_sim::sim_backend()).has_value());
  EXPECT_EQ(steps_of(graph), 2u);
}

TEST(Layouts, AnotherReaderOfRowsDoesNotMind) {
  ComputationGraph graph;
  const NodeId turned = add_rope(graph);
  graph.add_output(add_joined(graph, turned));
  graph.add_output(graph.add(op::Softmax{.axis = 3}, {turned}));
  EXPECT_EQ(steps_of(graph), 2u);
}

TEST(Layouts, ATransposeThatNobodyReshapesChangesNothing) {
  ComputationGraph graph;
  const NodeId turned = add_rope(graph);
  graph.add_output(graph.add(heads_last(), {turned}));
  EXPECT_FALSE(layout_for_readers(graph, turned, gpu_sim::sim_backend()).has_value());
}

TEST(Layouts, OtherKernelsWriteContiguously) {
  ComputationGraph graph;
  const NodeId sum =
      graph.add(op::Softmax{.axis = 3}, {input(graph, {kBatch, kHeads, kLength, kWidth})});
  graph.add_output(add_joined(graph, sum));
  EXPECT_TRUE(layout_for_readers(graph, sum, gpu_sim::sim_backend()).has_value());
  EXPECT_EQ(steps_of(graph), 2u);
}

}  // namespace
}  // namespace metal_candle
