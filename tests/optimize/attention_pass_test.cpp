// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class AttentionPassTest : public GraphTest {
 protected:
  static Expr swapped(Expr x) { return transpose(x, {0, 1, 3, 2}); }
  static Expr softmax(Expr x) {
    const Expr e = exp(x - max(x, 3));
    return e / sum(e, 3);
  }
  /// Each head `groups` times, one after the other.
  static Expr repeat_heads(Expr x, std::int64_t groups) {
    const Shape s = x.shape();
    const Expr wide =
        broadcast(reshape(x, {s[0], s[1], 1, s[2], s[3]}), {s[0], s[1], groups, s[2], s[3]});
    return reshape(wide, {s[0], s[1] * groups, s[2], s[3]});
  }

  Expr q_ = input({2, 4, 3, 8});
  Expr k_ = input({2, 4, 5, 8});
  Expr v_ = input({2, 4, 5, 6});
};

TEST_F(AttentionPassTest, Plain) {
  output(matmul(softmax(matmul(q_, swapped(k_)) * 0.5), v_));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("attention")) << graph_.to_text();
  EXPECT_EQ(the<op::Attention>().scale, 0.5f);
}

TEST_F(AttentionPassTest, ScaleInAnyPlace) {
  const auto query = [&] { return input({2, 4, 3, 8}); };
  output(matmul(softmax(matmul(query(), swapped(k_)) / std::sqrt(8.0)), v_));
  output(matmul(softmax(matmul(query() * 0.25, swapped(k_))), v_));
  output(matmul(softmax(matmul(query() * 0.5, swapped(k_ * 0.5))), v_));
  output(matmul(softmax(matmul(query(), swapped(k_))), v_));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("attention", "attention", "attention", "attention"))
      << graph_.to_text();
}

TEST_F(AttentionPassTest, AddedMask) {
  output(matmul(softmax(matmul(q_, swapped(k_)) * 0.5 + input({3, 5})), v_));
  output(matmul(softmax(matmul(q_ + 1.0, swapped(k_)) + input({2, 1, 1, 5})), v_));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("attention", "elementwise", "attention"))
      << graph_.to_text();
  EXPECT_TRUE(the<op::Attention>().has_mask);
}

TEST_F(AttentionPassTest, MaskBySelection) {
  // Every query sees a key.
  const Expr mask = input({3, 5}, DType::kBool);
  const Expr some = binary(BinaryKind::kLogicalOr, mask, unary(UnaryKind::kLogicalNot, mask));
  const Expr scores = matmul(q_, swapped(k_)) * 0.5;
  output(matmul(softmax(where(some, scores, constant(scores, -kInfinity))), v_));
  const Expr none = unary(UnaryKind::kLogicalNot, some);
  const Expr other = matmul(q_ + 1.0, swapped(k_));
  output(matmul(softmax(where(none, constant(other, -kInfinity), other)), v_));
  const OptimizationReport report = optimize();
  EXPECT_EQ(report.rewrites("attention"), 2) << graph_.to_text();
}

TEST_F(AttentionPassTest, GroupedHeads) {
  const Expr k = input({2, 2, 5, 8});
  const Expr v = input({2, 2, 5, 6});
  output(matmul(softmax(matmul(q_, swapped(repeat_heads(k, 2))) * 0.5), repeat_heads(v, 2)));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("attention")) << graph_.to_text();
}

TEST_F(AttentionPassTest, OneHeadOfKeysForAll) {
  const Expr k = input({2, 1, 5, 8});
  const Expr v = input({2, 1, 5, 6});
  output(matmul(softmax(matmul(q_, swapped(k)) * 0.5), v));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("attention")) << graph_.to_text();
}

TEST_F(AttentionPassTest, HeadsRepeatedInTheWrongOrder) {
  const Expr k = input({2, 2, 5, 8});
  const Expr tiled = reshape(broadcast(reshape(k, {2, 1, 2, 5, 8}), {2, 2, 2, 5, 8}), {2, 4, 5, 8});
  output(matmul(softmax(matmul(q_, swapped(tiled))), v_));
  optimize();
  // The tiled keys are an operand like any other.
  EXPECT_THAT(operations(), ElementsAre("reshape", "broadcast_to", "reshape", "attention"))
      << graph_.to_text();
}

TEST_F(AttentionPassTest, HalfPrecisionWithSoftmaxInSingle) {
  const Expr q = input({1, 2, 3, 8}, DType::kBF16);
  const Expr k = input({1, 2, 3, 8}, DType::kBF16);
  const Expr v = input({1, 2, 3, 8}, DType::kBF16);
  const Expr mask = input({3, 3});
  const Expr scores = cast(matmul(q, swapped(k)), DType::kF32) * 0.25 + mask;
  output(matmul(cast(softmax(scores), DType::kBF16), v));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("attention")) << graph_.to_text();
}

TEST_F(AttentionPassTest, Refuses) {
  const Expr probabilities = softmax(matmul(q_, swapped(k_)));
  output(matmul(probabilities, v_));
  output(probabilities);  // Is an output.
  const Expr e = exp(matmul(q_ + 1.0, swapped(k_)));
  output(matmul(e / sum(e, 2), v_));  // Over queries.
  const Expr wide = matmul(input({1, 4, 3, 8}), swapped(k_)) + input({2, 4, 3, 5});
  output(matmul(softmax(wide), v_));  // One query for both of the batch.
  optimize();
  EXPECT_THAT(operations(), Not(Contains("attention"))) << graph_.to_text();
}

}  // namespace
}  // namespace metal_candle::testing
