// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Every way in which operands can be wrong: the type of the error, and that its message names the
// operation and shows the shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/shape_rules.h"
#include "tests/graph/shape_cases.h"

namespace metal_candle {
namespace {

using shape_cases::bf16;
using shape_cases::boolean;
using shape_cases::f16;
using shape_cases::f32;
using shape_cases::i32;
using shape_cases::i64;
using shape_cases::u32;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Case {
  Operation operation;
  std::vector<TensorSpec> inputs;
  TensorSpec requested = {};
};

// Each case throws Expected itself (not a sibling), says "op: ..." and shows every operand's shape.
template <typename Expected>
void refuse(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    SCOPED_TRACE(shape_cases::describe(c.operation, c.inputs, c.requested));
    try {
      static_cast<void>(infer_output(c.operation, shape_cases::references(c.inputs), c.requested));
      ADD_FAILURE() << "was not refused";
    } catch (const Error& error) {
      EXPECT_EQ(typeid(error), typeid(Expected)) << error.what();
      EXPECT_THAT(error.what(), StartsWith(std::string(name(c.operation)) + ": "));
      for (const TensorSpec& input : c.inputs) {
        EXPECT_THAT(error.what(), HasSubstr(to_string(input.shape)));
      }
    }
  }
}

op::Unary unary(UnaryKind kind) { return {kind}; }
op::Binary binary(BinaryKind kind) { return {kind}; }
const op::Reduce kMaxOverFirst{ReduceKind::kMax, {0}, false};

TEST(ShapeErrors, MessagesShowTheOperandsAsTheyAre) {
  const std::vector<TensorSpec> inputs = {f32({2, 3}), f32({4, 5})};
  try {
    static_cast<void>(infer_output(op::Matmul{}, shape_cases::references(inputs), {}));
    FAIL();
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "matmul: inner dimensions differ: f32[2, 3], f32[4, 5]");
  }
}

TEST(ShapeErrors, CountsOfOperands) {
  refuse<Error>({
      {op::Full{}, {f32({1})}, f32({2})},
      {unary(UnaryKind::kExp), {}},
      {binary(BinaryKind::kAdd), {f32({2})}},
      {op::Select{}, {boolean({2}), f32({2})}},
      {op::Matmul{}, {f32({2, 2}), f32({2, 2}), f32({2, 2})}},
      {op::LayerNorm{}, {f32({2}), f32({2}), f32({2}), f32({2})}},
      {op::Linear{op::Activation::kNone, true, true, 1}, {f32({2, 2}), f32({2, 2}), f32({2})}},
      {op::LoraLinear{1, true}, {f32({2, 2}), f32({2, 2}), f32({2, 1}), f32({1, 2})}},
      {op::Attention{1, false, 0, true, false},
       {f32({1, 1, 2, 2}), f32({1, 1, 2, 2}), f32({1, 1, 2, 2})}},
  });
}

TEST(ShapeErrors, CreationAndElementwise) {
  refuse<ShapeError>({
      {op::Full{}, {}, f32({2, -1})},
      {op::Full{}, {}, f32({1LL << 40, 1LL << 40})},
      {op::Arange{}, {}, f32({2, 2})},
      {op::Arange{}, {}, f32({-2})},
      {op::RandomBits{}, {u32({3})}, u32({4})},
      {binary(BinaryKind::kAdd), {f32({2, 3}), f32({4})}},
      {binary(BinaryKind::kLess), {f32({2}), f32({0})}},
      {op::Select{}, {boolean({2}), f32({3}), f32({3})}},
      {op::SwiGlu{}, {f32({2, 3}), f32({3, 2})}},
      {binary(BinaryKind::kAdd), {f32({1LL << 40, 1}), f32({1LL << 40})}},
  });
  refuse<DTypeError>({
      {op::Arange{}, {}, boolean({2})},
      {op::RandomBits{}, {i32({2})}, u32({4})},
      {unary(UnaryKind::kNegative), {boolean({2})}},
      {unary(UnaryKind::kExp), {i32({2})}},
      {unary(UnaryKind::kGelu), {i64({2, 3})}},
      {unary(UnaryKind::kIsNan), {i32({2})}},
      {unary(UnaryKind::kBitwiseNot), {f32({2})}},
      {binary(BinaryKind::kAdd), {f32({2}), f16({2})}},
      {binary(BinaryKind::kAdd), {boolean({2}), boolean({2})}},
      {binary(BinaryKind::kDivide), {i32({2}), i32({2})}},
      {binary(BinaryKind::kBitwiseAnd), {f32({2}), f32({2})}},
      {binary(BinaryKind::kShiftLeft), {boolean({2}), boolean({2})}},
      {binary(BinaryKind::kEqual), {i32({2}), i64({2})}},
      {op::Select{}, {f32({2}), f32({2}), f32({2})}},
      {op::Select{}, {boolean({2}), f32({2}), f16({2})}},
      {op::SwiGlu{}, {i32({2}), i32({2})}},
  });
}

TEST(ShapeErrors, Programs) {
  const auto program = [](std::vector<ElementwiseInstruction> instructions) {
    auto p = std::make_shared<ElementwiseProgram>();
    p->inputs = {DType::kF32};
    p->instructions = std::move(instructions);
    return op::Elementwise{p};
  };
  refuse<DTypeError>({
      {program({}), {f32({2})}},
      {program({{unary(UnaryKind::kExp), DType::kF32, {0}}}), {f16({2})}},
      {program({{unary(UnaryKind::kExp), DType::kF32, {1}}}), {f32({2})}},
      {program({{unary(UnaryKind::kExp), DType::kF16, {0}}}), {f32({2})}},
      {program({{op::Softmax{0}, DType::kF32, {0}}}), {f32({2})}},
  });
  const auto reduced = [&](const ElementwiseInstruction& last, ReduceKind kind, const Axes& axes) {
    return op::ElementwiseReduce{program({last}), {kind, axes, false}};
  };
  const ElementwiseInstruction exponent{unary(UnaryKind::kExp), DType::kF32, {0}};
  const ElementwiseInstruction is_nan{unary(UnaryKind::kIsNan), DType::kBool, {0}};
  refuse<ShapeError>({
      {reduced(exponent, ReduceKind::kSum, {1}), {f32({2})}},
      {reduced(exponent, ReduceKind::kSum, {1, 0}), {f32({2, 3})}},
      {reduced(exponent, ReduceKind::kMax, {0}), {f32({0, 3})}},
  });
  refuse<DTypeError>({
      {reduced(exponent, ReduceKind::kSum, {0}), {f16({2})}},
      {reduced(is_nan, ReduceKind::kSum, {0}), {f32({2})}},
  });
}

TEST(ShapeErrors, Reductions) {
  refuse<ShapeError>({
      {op::Reduce{ReduceKind::kSum, {2}, false}, {f32({2, 3})}},
      {op::Reduce{ReduceKind::kSum, {1, 0}, false}, {f32({2, 3})}},
      {op::Reduce{ReduceKind::kSum, {1, 1}, true}, {f32({2, 3})}},
      {kMaxOverFirst, {f32({0, 3})}},
      {op::ArgReduce{true, 0}, {f32({0, 3})}},
      {op::ArgReduce{true, 2}, {f32({2, 3})}},
      {op::Cumulative{ReduceKind::kSum, -1, false}, {f32({2})}},
      {op::Sort{1, false}, {f32({2})}},
      {op::ArgSort{0, false}, {f32({})}},
      {op::ArgTopK{0}, {f32({2})}, i32({3})},
      {op::ArgTopK{1}, {f32({2, 3})}, i32({1, 2})},
      {op::LogSumExp{0, false}, {f32({0, 2})}},
      {op::TopPThreshold{0.5f}, {f32({})}},
      {op::TopPThreshold{0.5f}, {f32({2, 0})}},
      {op::Draw{}, {f32({}), f32({})}},
      {op::Draw{}, {f32({2, 0}), f32({2, 1})}},
      {op::Draw{}, {f32({2, 3}), f32({2})}},
      {op::Draw{}, {f32({2, 3}), f32({1, 1})}},
  });
  refuse<DTypeError>({
      {op::Reduce{ReduceKind::kSum, {0}, false}, {boolean({2})}},
      {op::ArgReduce{true, 0}, {boolean({2})}},
      {op::Cumulative{ReduceKind::kAny, 0, false}, {f32({2})}},
      {op::Sort{0, false}, {boolean({2})}},
      {op::LogSumExp{0, false}, {i32({2})}},
      {op::TopPThreshold{0.5f}, {i32({2})}},
      {op::Draw{}, {i32({2}), f32({1})}},
      {op::Draw{}, {f32({2}), f16({1})}},
  });
}

TEST(ShapeErrors, MatrixProducts) {
  refuse<ShapeError>({
      {op::Matmul{}, {f32({3}), f32({3, 4})}},
      {op::Matmul{}, {f32({2, 2, 3}), f32({2, 4})}},
      {op::Matmul{}, {f32({2, 2, 3}), f32({5, 3, 4})}},
      {op::Lora{1}, {f32({5, 3}), f32({4, 2}), f32({2, 7})}},
      {op::Lora{1}, {f32({5, 3}), f32({3, 2}), f32({3, 7})}},
      {op::Lora{1}, {f32({3}), f32({3, 2}), f32({2, 7})}},
      {op::Lora{1}, {f32({5, 3}), f32({1, 3, 2}), f32({2, 7})}},
      {op::LoraLinear{1, false}, {f32({5, 3}), f32({3, 7}), f32({3, 2}), f32({2, 6})}},
      {op::LoraLinear{1, true}, {f32({5, 3}), f32({3, 7}), f32({3, 2}), f32({2, 7}), f32({6})}},
      {op::ProductSum{1, false}, {f32({5, 3}), f32({3, 7})}},
      {op::ProductSum{2, false}, {f32({5, 3}), f32({3, 7}), f32({5, 4}), f32({3, 7})}},
      {op::ProductSum{2, false}, {f32({5, 3}), f32({3, 7}), f32({4, 2}), f32({2, 7})}},
      {op::ProductSum{2, true}, {f32({5, 3}), f32({3, 7}), f32({5, 2}), f32({2, 7}), f32({7})}},
      {op::NormLinear{1, true, {op::Activation::kNone, false, false, 1}},
       {f32({5, 3}), f32({3}), f32({3, 7}), f32({3, 8})}},
      {op::NormLinear{1, true, {op::Activation::kRelu, false, false, 1}},
       {f32({5, 3}), f32({3}), f32({3, 7}), f32({3, 7})}},
      {op::NormLinear{1, false, {op::Activation::kNone, false, false, 1}},
       {f32({5, 3}), f32({4}), f32({3, 7})}},
      {op::Linear{op::Activation::kRelu, true, false, 1}, {f32({5, 3}), f32({3, 7}), f32({1, 7})}},
      {op::Linear{op::Activation::kRelu, false, true, 1}, {f32({5, 3}), f32({3, 7}), f32({7})}},
  });
  refuse<DTypeError>({
      {op::Matmul{}, {f32({2, 3}), f16({3, 4})}},
      {op::Matmul{}, {boolean({2, 3}), boolean({3, 4})}},
      {op::Lora{1}, {bf16({5, 3}), f32({3, 2}), f32({2, 7})}},
      {op::Linear{op::Activation::kRelu, false, false, 1}, {i32({5, 3}), i32({3, 7})}},
  });
}

TEST(ShapeErrors, Layout) {
  refuse<ShapeError>({
      {op::Reshape{}, {f32({2, 3})}, f32({7})},
      {op::Reshape{}, {f32({2, 3})}, f32({-2, -3})},
      {op::Transpose{{0}}, {f32({2, 3})}},
      {op::Transpose{{0, 0}}, {f32({2, 3})}},
      {op::Transpose{{0, 2}}, {f32({2, 3})}},
      {op::Slice{{0}, {1}}, {f32({5})}, f32({6})},
      {op::Slice{{0}, {0}}, {f32({5})}, f32({2})},
      {op::Slice{{1}, {-1}}, {f32({5})}, f32({3})},
      {op::Slice{{5}, {1}}, {f32({5})}, f32({1})},
      {op::Slice{{0}, {1}}, {f32({5, 2})}, f32({5, 2})},
      {op::Broadcast{}, {f32({2, 3})}, f32({3})},
      {op::Broadcast{}, {f32({2, 3})}, f32({2, 4})},
      {op::Concatenate{0}, {}},
      {op::Concatenate{0}, {f32({2, 3}), f32({2, 4})}},
      {op::Concatenate{0}, {f32({2, 3}), f32({2})}},
      {op::Concatenate{2}, {f32({2, 3}), f32({2, 3})}},
      {op::Pad{{1}, {}}, {f32({3})}, f32({3})},
      {op::Pad{{-1}, {}}, {f32({3})}, f32({3})},
      {op::Barrier{}, {}},
      {op::CustomGradient{2, nullptr}, {f32({3})}},
  });
  refuse<DTypeError>({{op::Concatenate{0}, {f32({2}), i32({2})}}});
}

TEST(ShapeErrors, Indexing) {
  refuse<ShapeError>({
      {op::Take{2}, {f32({2, 3}), i32({4})}},
      {op::Take{0}, {f32({1, 1, 1, 1, 1}), i32({1, 1, 1, 1, 1})}},
      {op::TakeAlongAxis{0}, {f32({2, 3}), i32({2})}},
      {op::TakeAlongAxis{0}, {f32({2, 3}), i32({5, 4})}},
      {op::ScatterAdd{0}, {f32({2, 3}), i32({4}), f32({4})}},
      {op::ScatterAddAlongAxis{0}, {f32({2, 3}), i32({4, 3}), f32({2, 3})}},
      {op::SliceUpdate{{0, 0}, {1, 1}}, {f32({2, 3}), f32({2, 4})}},
      {op::SliceUpdate{{0, 0}, {1, 0}}, {f32({2, 3}), f32({2, 2})}},
      {op::SliceUpdate{{0}, {1}}, {f32({2, 3}), f32({2, 3})}},
      {op::SliceUpdate{{0, -1}, {1, 1}}, {f32({2, 3}), f32({2, 1})}},
      {op::DynamicSlice{{0}}, {f32({2, 3}), i32({2})}, f32({1, 3})},
      {op::DynamicSlice{{0, 0}}, {f32({2, 3}), i32({2})}, f32({1, 3})},
      {op::DynamicSlice{{2}}, {f32({2, 3}), i32({1})}, f32({1, 3})},
      {op::DynamicSlice{{0}}, {f32({2, 3}), i32({1})}, f32({3, 3})},
      {op::DynamicSliceUpdate{{0}}, {f32({2, 3}), f32({3, 3}), i32({1})}},
  });
  refuse<DTypeError>({
      {op::Take{0}, {f32({2, 3}), f32({4})}},
      {op::TakeAlongAxis{0}, {f32({2}), u32({2})}},
      {op::ScatterAdd{0}, {f32({2, 3}), i32({4}), f16({4, 3})}},
      {op::ScatterAdd{0}, {boolean({2}), i32({4}), boolean({4})}},
      {op::SliceUpdate{{0}, {1}}, {f32({2}), i32({2})}},
      {op::DynamicSlice{{0}}, {f32({2}), f32({1})}, f32({1})},
      {op::DynamicSliceUpdate{{0}}, {f32({2}), f16({1}), i32({1})}},
  });
}

TEST(ShapeErrors, Norms) {
  refuse<ShapeError>({
      {op::Softmax{1}, {f32({2})}},
      {op::LogSoftmax{-1}, {f32({2})}},
      {op::SoftmaxBackward{0}, {f32({2}), f32({3})}},
      {op::RmsNorm{}, {f32({})}},
      {op::RmsNorm{}, {f32({2, 3}), f32({2})}},
      {op::RmsNormBackward{}, {f32({2, 3}), f32({3}), f32({3, 2})}},
      {op::RmsNormBackward{1, true}, {f32({2, 3}), f32({3}), f32({2, 3}), f32({3})}},
      {op::SwiGluBackward{}, {f32({2, 3}), f32({2, 3}), f32({3})}},
      {op::SwiGluBackward{true}, {f32({2, 3}), f32({2, 3}), f32({2, 5}), f32({5, 4})}},
      {op::SwiGluBackward{true}, {f32({2, 3}), f32({2, 3}), f32({2, 5}), f32({2, 5, 3})}},
      {op::LayerNorm{}, {f32({2, 3}), f32({3}), f32({1, 3})}},
      {op::LayerNormBackward{}, {f32({2, 3}), f32({2, 2})}},
      {op::Rope{2, false, false, 1}, {f32({4}), i32({}), f32({1})}},
      {op::Rope{3, false, false, 1}, {f32({5, 4}), i32({}), f32({1})}},
      {op::Rope{6, false, false, 1}, {f32({5, 4}), i32({}), f32({3})}},
      {op::Rope{0, false, false, 1}, {f32({5, 4}), i32({}), f32({0})}},
      {op::Rope{4, false, false, 1}, {f32({5, 4}), i32({5}), f32({2})}},
      {op::Rope{4, false, false, 1}, {f32({3, 5, 4}), i32({5}), f32({2})}},
      {op::Rope{4, false, false, 1}, {f32({5, 4}), i32({}), f32({4})}},
  });
  refuse<DTypeError>({
      {op::Softmax{0}, {i32({2})}},
      {op::SoftmaxBackward{0}, {f32({2}), f16({2})}},
      {op::RmsNorm{}, {f16({2, 3}), f32({3})}},
      {op::LayerNorm{}, {i32({2})}},
      {op::Rope{4, false, false, 1}, {f32({5, 4}), i64({}), f32({2})}},
      {op::Rope{4, false, false, 1}, {f16({5, 4}), i32({}), f16({2})}},
  });
}

TEST(ShapeErrors, Attention) {
  const TensorSpec q = f32({2, 6, 5, 8}), k = f32({2, 3, 7, 8}), v = f32({2, 3, 7, 4});
  const TensorSpec output = f32({2, 6, 5, 4}), logsumexp = f32({2, 6, 5});
  const op::Attention plain{1, false, 0, false, false};
  const op::Attention masked{1, false, 0, true, false}, lengths{1, false, 0, false, true};
  const op::AttentionBackward backward{plain};
  refuse<ShapeError>({
      {plain, {f32({6, 5, 8}), k, v}},
      {plain, {f32({3, 6, 5, 8}), k, v}},
      {plain, {q, k, f32({2, 3, 6, 4})}},
      {plain, {q, k, f32({2, 1, 7, 4})}},
      {plain, {f32({2, 6, 5, 9}), k, v}},
      {plain, {f32({2, 5, 5, 8}), k, v}},
      {op::Attention{1, true, -1, false, false}, {q, k, v}},
      {op::Attention{1, false, 4, false, false}, {q, k, v}},
      {masked, {q, k, v, boolean({5, 6})}},
      {masked, {q, k, v, boolean({1, 1, 1, 1, 1})}},
      {lengths, {q, k, v, i32({3})}},
      {backward, {q, k, v, q, logsumexp, output}},
      {backward, {q, k, v, output, f32({2, 6}), output}},
      {backward, {q, k, v, output, logsumexp, q}},
  });
  refuse<DTypeError>({
      {plain, {q, f16({2, 3, 7, 8}), v}},
      {plain, {i32({2, 6, 5, 8}), i32({2, 3, 7, 8}), i32({2, 3, 7, 4})}},
      {masked, {q, k, v, i32({5, 7})}},
      {lengths, {q, k, v, i64({})}},
      {backward, {q, k, v, f16({2, 6, 5, 4}), logsumexp, output}},
      {backward, {q, k, v, output, f16({2, 6, 5}), output}},
  });
}

TEST(ShapeErrors, CachedAttention) {
  const TensorSpec q = f32({2, 6, 1, 8}), k = f32({2, 3, 1, 8}), v = f32({2, 3, 1, 4});
  const TensorSpec keys = f32({2, 3, 7, 8}), values = f32({2, 3, 7, 4}), turns = f32({3});
  const TensorSpec one = i32({});
  const op::Rope rope{6, false, false, 1};
  const op::Attention attention{1, true, 0, false, true};
  const op::CachedAttention step{rope, attention};
  refuse<ShapeError>({
      {step, {f32({2, 5, 1, 8}), k, v, keys, values, one, turns, one}},
      {step, {q, f32({2, 3, 2, 8}), v, keys, values, one, turns, one}},
      {step, {q, f32({2, 3, 1, 6}), v, keys, values, one, turns, one}},
      {step, {q, k, f32({2, 1, 1, 4}), keys, values, one, turns, one}},
      {step, {q, k, v, keys, f32({2, 3, 6, 4}), one, turns, one}},
      {step, {q, k, v, keys, values, i32({2}), turns, one}},
      {step, {q, k, v, keys, values, one, f32({4}), one}},
      {step, {q, k, v, keys, values, one, turns, i32({3})}},
      {op::CachedAttention{{10, false, false, 1}, attention},
       {q, k, v, keys, values, one, f32({5}), one}},
      {op::CachedAttention{rope, {1, true, 0, false, false}},
       {q, k, v, keys, values, one, turns, one}},
      {op::CachedAttention{rope, {1, true, 0, true, true}},
       {q, k, v, keys, values, one, turns, one}},
      // More rows than the cache has.
      {step,
       {f32({2, 6, 8, 8}), f32({2, 3, 8, 8}), f32({2, 3, 8, 4}), keys, values, one, turns, one}},
  });
  refuse<DTypeError>({
      {step, {q, k, v, f16({2, 3, 7, 8}), values, one, turns, one}},
      {step, {q, k, v, keys, values, i64({}), turns, one}},
      {step, {q, k, v, keys, values, one, f16({3}), one}},
      {step, {q, k, v, keys, values, one, turns, i64({})}},
  });
}

TEST(ShapeErrors, CrossEntropies) {
  const TensorSpec x = f32({5, 3}), weight = f32({3, 9}), rows = f32({5});
  refuse<ShapeError>({
      {op::CrossEntropy{0}, {f32({5, 9}), i32({4})}},
      {op::CrossEntropy{0}, {f32({5, 0}), i32({5})}},
      {op::CrossEntropy{0}, {f32({}), i32({})}},
      {op::CrossEntropyBackward{0}, {f32({5, 9}), i32({5}), rows, f32({4})}},
      {op::LinearCrossEntropy{0}, {x, f32({4, 9}), i32({5})}},
      {op::LinearCrossEntropy{0}, {x, f32({1, 3, 9}), i32({5})}},
      {op::LinearCrossEntropy{0}, {x, f32({3, 0}), i32({5})}},
      {op::LinearCrossEntropy{0}, {x, weight, i32({6})}},
      {op::LinearCrossEntropy{0}, {f32({3}), weight, i32({})}},
      {op::LinearCrossEntropyBackward{0}, {x, weight, i32({5}), f32({5, 1}), rows}},
  });
  refuse<DTypeError>({
      {op::CrossEntropy{0}, {i32({5, 9}), i32({5})}},
      {op::CrossEntropy{0}, {f32({5, 9}), f32({5})}},
      {op::CrossEntropyBackward{0}, {f16({5, 9}), i32({5}), f16({5}), rows}},
      {op::LinearCrossEntropy{0}, {x, f16({3, 9}), i32({5})}},
      {op::LinearCrossEntropyBackward{0}, {x, weight, i32({5}), rows, i32({5})}},
  });
}

}  // namespace
}  // namespace metal_candle
