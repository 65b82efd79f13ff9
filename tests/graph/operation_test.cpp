// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/graph/operation.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>

namespace metal_candle {
namespace {

template <std::size_t... I>
std::vector<Operation> default_of_each(std::index_sequence<I...>) {
  std::vector<Operation> operations = {
      Operation(std::in_place_index<I>, std::variant_alternative_t<I, Operation>{})...};
  for (Operation& operation : operations) {
    if (auto* fused = std::get_if<op::Elementwise>(&operation)) {
      fused->program = std::make_shared<const ElementwiseProgram>();
    }
    if (auto* fused = std::get_if<op::ElementwiseReduce>(&operation)) {
      fused->elementwise.program = std::make_shared<const ElementwiseProgram>();
    }
  }
  return operations;
}
std::vector<Operation> one_of_each() {
  return default_of_each(std::make_index_sequence<std::variant_size_v<Operation>>());
}

std::shared_ptr<const ElementwiseProgram> program(BinaryKind kind, std::int32_t second = 1) {
  return std::make_shared<const ElementwiseProgram>(ElementwiseProgram{
      {DType::kF32, DType::kF32}, {{op::Binary{kind}, DType::kF32, {0, second}}}});
}

op::ElementwiseReduce reduced(BinaryKind kind, const op::Reduce& reduce) {
  return {{program(kind)}, reduce};
}

TEST(OperationTest, NamesAreDistinct) {
  std::set<std::string_view> names;
  for (int i = 0; i < kNumUnaryKinds; ++i) names.insert(name(static_cast<UnaryKind>(i)));
  for (int i = 0; i < kNumBinaryKinds; ++i) names.insert(name(static_cast<BinaryKind>(i)));
  EXPECT_EQ(names.size(), std::size_t{kNumUnaryKinds + kNumBinaryKinds});
  EXPECT_FALSE(names.contains(""));
  const std::vector<Operation> operations = one_of_each();
  for (const Operation& operation : operations) {
    if (std::holds_alternative<op::Unary>(operation)) continue;
    if (std::holds_alternative<op::Binary>(operation)) continue;
    EXPECT_TRUE(names.insert(name(operation)).second) << name(operation);
  }
}

// The tables are in the order of the enumerations: kinds here and there along them.
TEST(OperationTest, KindsHaveTheirOwnNames) {
  EXPECT_EQ(name(UnaryKind::kAbs), "abs");
  EXPECT_EQ(name(UnaryKind::kReciprocal), "reciprocal");
  EXPECT_EQ(name(UnaryKind::kErf), "erf");
  EXPECT_EQ(name(UnaryKind::kGeluTanh), "gelu_tanh");
  EXPECT_EQ(name(UnaryKind::kIsFinite), "isfinite");
  EXPECT_EQ(name(UnaryKind::kBitwiseNot), "bitwise_not");
  EXPECT_EQ(name(BinaryKind::kAdd), "add");
  EXPECT_EQ(name(BinaryKind::kMinimum), "minimum");
  EXPECT_EQ(name(BinaryKind::kCopysign), "copysign");
  EXPECT_EQ(name(BinaryKind::kEqual), "equal");
  EXPECT_EQ(name(BinaryKind::kLogicalXor), "logical_xor");
  EXPECT_EQ(name(ReduceKind::kAny), "any");
  EXPECT_EQ(name(Operation(op::Reduce{ReduceKind::kMax, {}, false})), "reduce_max");
  EXPECT_EQ(name(Operation(op::ArgReduce{false, 0})), "argmin");
  EXPECT_EQ(name(Operation(reduced(BinaryKind::kAdd, {ReduceKind::kMin, {}, false}))),
            "elementwise_reduce_min");
}

TEST(OperationTest, TextHasTheAttributes) {
  EXPECT_EQ(to_string(Operation(op::Reduce{ReduceKind::kSum, {1}, true})),
            "reduce_sum(axes=[1], keepdims=true)");
  EXPECT_EQ(to_string(Operation(op::Matmul{})), "matmul");
  EXPECT_EQ(to_string(Operation(op::Unary{UnaryKind::kExp})), "exp");
  EXPECT_EQ(to_string(Operation(op::Full{Scalar::from_real(0.5)})), "full(value=0.5)");
  EXPECT_EQ(to_string(Operation(op::Linear{op::Activation::kSilu, true, false, 2.0f})),
            "linear(activation=silu, has_bias=true, has_residual=false, scale=2)");
  EXPECT_EQ(to_string(Operation(op::Elementwise{program(BinaryKind::kAdd)})),
            "elementwise(program=%2 = add f32 %0 %1)");
  EXPECT_EQ(to_string(Operation(reduced(BinaryKind::kAdd, {ReduceKind::kSum, {1}, true}))),
            "elementwise_reduce_sum(program=%2 = add f32 %0 %1, axes=[1], keepdims=true)");
}

TEST(OperationTest, HashFollowsEquality) {
  const std::vector<Operation> operations = one_of_each();
  std::set<std::uint64_t> hashes;
  for (const Operation& operation : operations) {
    const Operation copy = operation;
    EXPECT_EQ(copy, operation);
    EXPECT_EQ(hash(copy), hash(operation));
    hashes.insert(hash(operation));
  }
  EXPECT_EQ(hashes.size(), operations.size());
}

TEST(OperationTest, EveryAttributeCounts) {
  const std::pair<Operation, Operation> different[] = {
      {op::Full{Scalar::from_real(0.0)}, op::Full{Scalar::from_real(-0.0)}},
      {op::Full{Scalar::from_integer((std::int64_t{1} << 53))},
       op::Full{Scalar::from_integer((std::int64_t{1} << 53) + 1)}},
      {op::Unary{UnaryKind::kExp}, op::Unary{UnaryKind::kLog}},
      {op::Reduce{ReduceKind::kSum, {0, 1}, false}, op::Reduce{ReduceKind::kSum, {0}, false}},
      {op::Reduce{ReduceKind::kSum, {0}, false}, op::Reduce{ReduceKind::kSum, {0}, true}},
      {op::Slice{{0, 1}, {1, 1}}, op::Slice{{1, 0}, {1, 1}}},
      {op::Slice{{0}, {1}}, op::Slice{{0}, {-1}}},
      {op::Attention{1, false, 0, false, false}, op::Attention{1, true, 0, false, false}},
      {op::Attention{1, false, 0, true, false}, op::Attention{1, false, 0, false, true}},
      {op::RmsNorm{1e-5f}, op::RmsNorm{1e-6f}},
      {op::RmsNorm{1e-5f}, op::LayerNorm{1e-5f}},
      {op::Elementwise{program(BinaryKind::kAdd)}, op::Elementwise{program(BinaryKind::kMultiply)}},
      {op::Elementwise{program(BinaryKind::kAdd)}, op::Elementwise{program(BinaryKind::kAdd, 0)}},
      {reduced(BinaryKind::kAdd, {ReduceKind::kSum, {0}, false}),
       reduced(BinaryKind::kMultiply, {ReduceKind::kSum, {0}, false})},
      {reduced(BinaryKind::kAdd, {ReduceKind::kSum, {0}, false}),
       reduced(BinaryKind::kAdd, {ReduceKind::kMax, {0}, false})},
      {reduced(BinaryKind::kAdd, {ReduceKind::kSum, {0}, false}),
       reduced(BinaryKind::kAdd, {ReduceKind::kSum, {1}, false})},
  };
  for (const auto& [a, b] : different) {
    EXPECT_NE(a, b) << to_string(a);
    EXPECT_NE(hash(a), hash(b)) << to_string(a) << " and " << to_string(b);
  }
  // Programs compare by what they do, not by where they are.
  const Operation once = op::Elementwise{program(BinaryKind::kAdd)};
  const Operation again = op::Elementwise{program(BinaryKind::kAdd)};
  EXPECT_EQ(once, again);
  EXPECT_EQ(hash(once), hash(again));
  const Operation nan = op::Full{Scalar::from_real(std::numeric_limits<double>::quiet_NaN())};
  EXPECT_EQ(nan, Operation(nan));
}

TEST(OperationTest, Classes) {
  const std::set<std::string_view> aliases = {"transpose", "slice",         "broadcast_to",
                                              "barrier",   "stop_gradient", "identity"};
  for (const Operation& operation : one_of_each()) {
    EXPECT_EQ(is_alias(operation), aliases.contains(name(operation))) << name(operation);
  }
  EXPECT_TRUE(is_elementwise(op::SwiGlu{}));
  EXPECT_TRUE(is_elementwise(op::Full{}));
  EXPECT_FALSE(is_elementwise(op::Arange{}));
  EXPECT_FALSE(is_elementwise(op::Softmax{}));
  EXPECT_TRUE(is_composite(op::Softmax{}));
  EXPECT_TRUE(is_composite(op::Elementwise{}));
  EXPECT_TRUE(is_composite(op::ElementwiseReduce{}));
  EXPECT_FALSE(is_elementwise(op::ElementwiseReduce{}));
  EXPECT_TRUE(is_composite(op::Unary{UnaryKind::kSigmoid}));
  EXPECT_TRUE(is_composite(op::Unary{UnaryKind::kSilu}));
  EXPECT_FALSE(is_composite(op::Unary{UnaryKind::kTrunc}));
  EXPECT_FALSE(is_composite(op::Unary{UnaryKind::kIsNan}));
  EXPECT_FALSE(is_composite(op::DynamicSliceUpdate{}));
  EXPECT_TRUE(is_predicate(UnaryKind::kLogicalNot));
  EXPECT_FALSE(is_predicate(UnaryKind::kBitwiseNot));
  EXPECT_TRUE(is_predicate(BinaryKind::kEqual));
  EXPECT_FALSE(is_predicate(BinaryKind::kShiftRight));
  EXPECT_TRUE(is_commutative(BinaryKind::kAdd));
  EXPECT_FALSE(is_commutative(BinaryKind::kSubtract));
}

}  // namespace
}  // namespace metal_candle
