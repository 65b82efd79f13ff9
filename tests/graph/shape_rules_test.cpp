// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The output of every operation, by tables written out by hand. Refusals are in
// shape_errors_test.cpp.
#include "metal_candle/graph/shape_rules.h"

#include <gtest/gtest.h>

#include "tests/graph/shape_cases.h"

namespace metal_candle {
namespace {

using shape_cases::boolean;
using shape_cases::f16;
using shape_cases::f32;
using shape_cases::i32;
using shape_cases::i64;
using shape_cases::u32;

struct Case {
  Operation operation;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  TensorSpec requested = {};
};

void check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    SCOPED_TRACE(shape_cases::describe(c.operation, c.inputs, c.requested));
    const auto refs = shape_cases::references(c.inputs);
    const OutputSpecs outputs = infer_outputs(c.operation, refs, c.requested);
    ASSERT_EQ(static_cast<std::size_t>(outputs.count), c.outputs.size());
    for (std::size_t i = 0; i < c.outputs.size(); ++i) {
      EXPECT_EQ(to_string(outputs.specs[i].shape), to_string(c.outputs[i].shape)) << "output " << i;
      EXPECT_EQ(name(outputs.specs[i].dtype), name(c.outputs[i].dtype)) << "output " << i;
    }
    EXPECT_EQ(infer_output(c.operation, refs, c.requested), c.outputs[0]);
    EXPECT_LE(c.outputs.size(), static_cast<std::size_t>(num_outputs(c.operation)));
  }
}

op::Unary unary(UnaryKind kind) { return {kind}; }
op::Binary binary(BinaryKind kind) { return {kind}; }

TEST(ShapeRules, Creation) {
  check({
      {op::Full{}, {}, {f32({2, 3})}, f32({2, 3})},
      {op::Full{}, {}, {boolean({})}, boolean({})},
      {op::Full{}, {}, {f32({0, 5})}, f32({0, 5})},
      {op::Arange{}, {}, {i64({7})}, i64({7})},
      {op::Arange{}, {}, {f32({0})}, f32({0})},
      {op::RandomBits{}, {u32({2})}, {u32({4, 5})}, f32({4, 5})},
  });
}

TEST(ShapeRules, Elementwise) {
  check({
      {unary(UnaryKind::kAbs), {i32({2, 3})}, {i32({2, 3})}},
      {unary(UnaryKind::kExp), {f16({})}, {f16({})}},
      {unary(UnaryKind::kSilu), {f32({0, 4})}, {f32({0, 4})}},
      {unary(UnaryKind::kIsNan), {f16({3})}, {boolean({3})}},
      {unary(UnaryKind::kLogicalNot), {i64({3})}, {boolean({3})}},
      {unary(UnaryKind::kBitwiseNot), {boolean({3})}, {boolean({3})}},
      {binary(BinaryKind::kAdd), {f32({2, 1, 3}), f32({4, 1})}, {f32({2, 4, 3})}},
      {binary(BinaryKind::kPower), {i32({2}), i32({})}, {i32({2})}},
      {binary(BinaryKind::kDivide), {f16({1}), f16({0})}, {f16({0})}},
      {binary(BinaryKind::kBitwiseXor), {boolean({2}), boolean({2})}, {boolean({2})}},
      {binary(BinaryKind::kShiftLeft), {u32({2}), u32({2})}, {u32({2})}},
      {binary(BinaryKind::kLess), {i64({2, 1}), i64({3})}, {boolean({2, 3})}},
      {binary(BinaryKind::kLogicalAnd), {f32({2}), f32({2})}, {boolean({2})}},
      {op::Select{}, {boolean({2, 1}), f32({3}), f32({4, 1, 1})}, {f32({4, 2, 3})}},
      {op::Cast{}, {f32({2, 3})}, {i32({2, 3})}, i32({})},
      {op::SwiGlu{}, {f16({2, 1}), f16({3})}, {f16({2, 3})}},
  });
}

TEST(ShapeRules, ElementwiseProgram) {
  auto program = std::make_shared<ElementwiseProgram>();
  program->inputs = {DType::kF32, DType::kI32};
  program->instructions = {{op::Cast{}, DType::kF32, {1}},
                           {op::Binary{BinaryKind::kAdd}, DType::kF32, {0, 2}},
                           {op::Full{}, DType::kF32, {}},
                           {op::Binary{BinaryKind::kLess}, DType::kBool, {3, 4}}};
  const op::Elementwise less{program};
  check({
      {less, {f32({2, 1}), i32({3})}, {boolean({2, 3})}},
      {op::ElementwiseReduce{less, {ReduceKind::kAny, {0}, false}},
       {f32({2, 1}), i32({3})},
       {boolean({3})}},
      {op::ElementwiseReduce{less, {ReduceKind::kAll, {0, 1}, true}},
       {f32({2, 1}), i32({3})},
       {boolean({1, 1})}},
  });
  program = std::make_shared<ElementwiseProgram>();
  program->inputs = {DType::kF16};
  program->instructions = {{op::Cast{}, DType::kF32, {0}}};
  check({
      {op::ElementwiseReduce{{program}, {ReduceKind::kSum, {1}, false}},
       {f16({2, 0, 3})},
       {f32({2, 3})}},
      {op::ElementwiseReduce{{program}, {ReduceKind::kMax, {}, false}}, {f16({})}, {f32({})}},
  });
}

TEST(ShapeRules, Reductions) {
  check({
      {op::Reduce{ReduceKind::kSum, {1}, false}, {f32({2, 3, 4})}, {f32({2, 4})}},
      {op::Reduce{ReduceKind::kSum, {0, 2}, true}, {f16({2, 3, 4})}, {f16({1, 3, 1})}},
      {op::Reduce{ReduceKind::kSum, {0}, false}, {f32({0, 3})}, {f32({3})}},
      {op::Reduce{ReduceKind::kMax, {1}, false}, {i32({0, 3})}, {i32({0})}},
      {op::Reduce{ReduceKind::kAny, {0, 1}, false}, {f32({2, 3})}, {boolean({})}},
      {op::Reduce{ReduceKind::kProd, {}, false}, {i64({2, 3})}, {i64({2, 3})}},
      {op::ArgReduce{true, 1}, {f32({2, 3, 4})}, {i32({2, 4})}},
      {op::Cumulative{ReduceKind::kMax, 0, true}, {i64({2, 3})}, {i64({2, 3})}},
      {op::Sort{1, false}, {f16({2, 0})}, {f16({2, 0})}},
      {op::ArgSort{0, true}, {u32({5})}, {i32({5})}},
      {op::ArgTopK{1}, {f32({2, 9})}, {i32({2, 4})}, i32({2, 4})},
      {op::LogSumExp{1, true}, {f32({2, 3})}, {f32({2, 1})}},
      {op::LogSumExp{0, false}, {f16({2, 3})}, {f16({3})}},
      {op::TopPThreshold{0.5f}, {f16({2, 3})}, {f16({2, 1})}},
      {op::Draw{}, {f16({4, 2, 3}), f32({4, 2, 1})}, {i32({4, 2, 1})}},
      {op::Draw{}, {f32({0, 3}), f32({0, 1})}, {i32({0, 1})}},
  });
}

TEST(ShapeRules, MatrixProducts) {
  check({
      {op::Matmul{}, {f32({2, 3}), f32({3, 4})}, {f32({2, 4})}},
      {op::Matmul{}, {i32({5, 2, 3}), i32({3, 4})}, {i32({5, 2, 4})}},
      {op::Matmul{}, {f16({5, 1, 2, 3}), f16({7, 3, 4})}, {f16({5, 7, 2, 4})}},
      {op::Matmul{}, {f32({2, 0}), f32({0, 4})}, {f32({2, 4})}},
      {op::Lora{2}, {f32({6, 5, 3}), f32({3, 2}), f32({2, 7})}, {f32({6, 5, 7})}},
      {op::LoraLinear{1, false},
       {f32({5, 3}), f32({3, 7}), f32({3, 2}), f32({2, 7})},
       {f32({5, 7})}},
      {op::LoraLinear{1, true},
       {f16({4, 5, 3}), f16({3, 7}), f16({3, 2}), f16({2, 7}), f16({7})},
       {f16({4, 5, 7})}},
      {op::Linear{op::Activation::kSilu, true, true, 1},
       {f32({5, 3}), f32({3, 7}), f32({7}), f32({5, 7})},
       {f32({5, 7})}},
      {op::ProductSum{2, true},
       {f32({2, 5, 3}), f32({3, 7}), f32({2, 5, 4}), f32({4, 7}), f32({2, 5, 7})},
       {f32({2, 5, 7})}},
      {op::NormLinear{1, false, {op::Activation::kSilu, true, true, 1}},
       {f32({5, 3}), f32({3}), f32({3, 7}), f32({7}), f32({5, 7})},
       {f32({5, 7})}},
      {op::NormLinear{1, true, {op::Activation::kNone, false, false, 1}},
       {f16({2, 5, 3}), f16({3}), f16({3, 7}), f16({3, 7})},
       {f16({2, 5, 7})}},
      {op::Linear{op::Activation::kNone, false, false, 2},
       {f32({9, 5, 3}), f32({9, 3, 7})},
       {f32({9, 5, 7})}},
  });
}

TEST(ShapeRules, Layout) {
  check({
      {op::Reshape{}, {f32({2, 6})}, {f32({3, 4})}, f32({3, 4})},
      {op::Reshape{}, {f32({0, 6})}, {f32({5, 0})}, f32({5, 0})},
      {op::Transpose{{2, 0, 1}}, {i32({2, 3, 4})}, {i32({4, 2, 3})}},
      {op::Slice{{4, 0}, {-2, 1}}, {f32({5, 3})}, {f32({3, 2})}, f32({3, 2})},
      {op::Slice{{0}, {1}}, {f32({5})}, {f32({0})}, f32({0})},
      {op::Broadcast{}, {f32({3, 1})}, {f32({2, 3, 4})}, f32({2, 3, 4})},
      {op::Broadcast{}, {f32({1})}, {f32({0})}, f32({0})},
      {op::Concatenate{1}, {f32({2, 3}), f32({2, 0}), f32({2, 4})}, {f32({2, 7})}},
      {op::Pad{{1, 0}, {}}, {f32({2, 3})}, {f32({4, 3})}, f32({4, 3})},
      {op::Barrier{}, {f32({2}), i32({3})}, {f32({2})}},
      {op::StopGradient{}, {f32({2})}, {f32({2})}},
      {op::Identity{}, {i64({})}, {i64({})}},
      {op::Pick{1}, {f32({2, 3})}, {i32({5})}, i32({5})},
  });
}

TEST(ShapeRules, Indexing) {
  check({
      {op::Take{1}, {f32({2, 9, 4}), i32({5, 6})}, {f32({2, 5, 6, 4})}},
      {op::Take{0}, {i64({9}), i64({})}, {i64({})}},
      {op::TakeAlongAxis{1}, {f32({2, 9}), i32({2, 3})}, {f32({2, 3})}},
      {op::ScatterAdd{1}, {f32({2, 9}), i32({5}), f32({2, 5})}, {f32({2, 9})}},
      {op::ScatterAddAlongAxis{0}, {i32({9, 2}), i64({4, 2}), i32({4, 2})}, {i32({9, 2})}},
      {op::SliceUpdate{{1, 8}, {1, -3}}, {f32({4, 9}), f32({3, 3})}, {f32({4, 9})}},
      {op::DynamicSlice{{1}}, {f32({4, 9}), i32({1})}, {f32({3, 2})}, f32({3, 2})},
      {op::DynamicSliceUpdate{{0, 1}}, {f32({4, 9}), f32({1, 9}), i64({2})}, {f32({4, 9})}},
  });
}

TEST(ShapeRules, Norms) {
  check({
      {op::Softmax{0}, {f16({2, 3})}, {f16({2, 3})}},
      {op::LogSoftmax{1}, {f32({2, 0})}, {f32({2, 0})}},
      {op::SoftmaxBackward{1}, {f32({2, 3}), f32({2, 3})}, {f32({2, 3})}},
      {op::RmsNorm{}, {f32({2, 3})}, {f32({2, 3})}},
      {op::RmsNorm{}, {f16({2, 3}), f16({3})}, {f16({2, 3})}},
      {op::RmsNormBackward{}, {f32({2, 3}), f32({2, 3})}, {f32({2, 3})}},
      {op::RmsNormBackward{}, {f32({2, 3}), f32({3}), f32({2, 3})}, {f32({2, 3}), f32({3})}},
      {op::RmsNormBackward{1, true},
       {f32({2, 3}), f32({3}), f32({2, 3}), f32({2, 3})},
       {f32({2, 3}), f32({3})}},
      {op::SwiGluBackward{}, {f16({2, 3}), f16({2, 3}), f16({2, 3})}, {f16({2, 3}), f16({2, 3})}},
      {op::SwiGluBackward{true},
       {f16({2, 3}), f16({2, 3}), f16({2, 5}), f16({5, 3})},
       {f16({2, 3}), f16({2, 3})}},
      {op::LoraLinear{1, false, true},
       {f32({2, 5, 3}), f32({3, 7}), f32({3, 2}), f32({2, 7})},
       {f32({2, 5, 7}), f32({2, 5, 2})}},
      {op::LayerNorm{}, {f32({4, 2, 3}), f32({3}), f32({3})}, {f32({4, 2, 3})}},
      {op::LayerNormBackward{}, {f16({2, 3}), f16({3}), f16({2, 3})}, {f16({2, 3}), f16({3})}},
      {op::Rope{4, false, false, 1}, {f16({2, 8, 5, 6}), i32({}), f32({2})}, {f16({2, 8, 5, 6})}},
      {op::Rope{6, true, true, 1}, {f32({2, 5, 6}), i32({2}), f32({3})}, {f32({2, 5, 6})}},
  });
}

TEST(ShapeRules, Attention) {
  const TensorSpec q = f16({2, 6, 5, 8}), k = f16({2, 3, 7, 8}), v = f16({2, 3, 7, 4});
  const TensorSpec output = f16({2, 6, 5, 4}), logsumexp = f32({2, 6, 5});
  const op::Attention plain{1, false, 0, false, false}, full{1, true, 3, true, true};
  check({
      {plain, {q, k, v}, {output, logsumexp}},
      {full, {q, k, v, boolean({5, 7}), i32({2})}, {output, logsumexp}},
      {full, {q, k, v, f32({2, 1, 5, 1}), i32({})}, {output, logsumexp}},
      {op::AttentionBackward{plain}, {q, k, v, output, logsumexp, output}, {q, k, v}},
      {op::AttentionBackward{full},
       {q, k, v, output, logsumexp, output, boolean({5, 7}), i32({})},
       {q, k, v}},
  });
}

TEST(ShapeRules, CachedAttention) {
  const TensorSpec q = f16({2, 6, 1, 8}), k = f16({2, 3, 1, 8}), v = f16({2, 3, 1, 4});
  const TensorSpec keys = f16({2, 3, 7, 8}), values = f16({2, 3, 7, 4}), turns = f32({3});
  const op::CachedAttention step{{6, false, false, 1}, {1, true, 3, false, true}};
  check({
      {step, {q, k, v, keys, values, i32({}), turns, i32({2})}, {f16({2, 6, 1, 4}), keys, values}},
      {step,
       {f16({2, 6, 5, 8}), f16({2, 3, 5, 8}), f16({2, 3, 5, 4}), keys, values, i32({}), turns,
        i32({})},
       {f16({2, 6, 5, 4}), keys, values}},
  });
}

TEST(ShapeRules, CrossEntropies) {
  const TensorSpec rows = f32({2, 5});
  check({
      {op::CrossEntropy{-100}, {f16({2, 5, 9}), i32({2, 5})}, {rows, rows}},
      {op::CrossEntropy{-100}, {f32({9}), i64({})}, {f32({}), f32({})}},
      {op::CrossEntropyBackward{0}, {f16({2, 5, 9}), i64({2, 5}), rows, rows}, {f16({2, 5, 9})}},
      {op::LinearCrossEntropy{0},
       {f16({2, 5, 3}), f16({3, 9}), i32({2, 5})},
       {rows, rows, f16({2, 5, 3})}},
      {op::LinearCrossEntropyBackward{0},
       {f16({2, 5, 3}), f16({3, 9}), i32({2, 5}), rows, rows},
       {f16({2, 5, 3}), f16({3, 9})}},
  });
}

TEST(ShapeRules, CustomGradientHasAsManyOutputsAsItSays) {
  const std::vector<TensorSpec> inputs = {f32({2}), i32({3}), f32({4})};
  const op::CustomGradient operation{2, nullptr};
  EXPECT_EQ(num_outputs(operation), 2);
  EXPECT_EQ(infer_output(operation, shape_cases::references(inputs), {}), inputs[0]);
}

}  // namespace
}  // namespace metal_candle
