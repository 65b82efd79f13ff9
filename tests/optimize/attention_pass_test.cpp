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

/// Masks that the graph computes from positions.
class CausalMaskTest : public AttentionPassTest {
 protected:
  static constexpr std::int64_t kQueries = 3, kKeys = 5;

  Expr positions(std::int64_t count, DType dtype = DType::kI64, std::int64_t first = 0) {
    const op::Arange arange{Scalar::from_integer(first), Scalar::from_integer(1)};
    return {&graph_, graph_.add(arange, {}, {Shape{count}, dtype})};
  }
  Expr filled(const Shape& shape, double value, DType dtype = DType::kF32) {
    return {&graph_, graph_.add(op::Full{Scalar::from_real(value)}, {}, {shape, dtype})};
  }
  /// Whether i + diagonal >= j, as tril() writes it.
  Expr below(std::int64_t diagonal, std::int64_t queries = kQueries, std::int64_t keys = kKeys) {
    const Expr row = reshape(positions(queries, DType::kI64, diagonal), {queries, 1});
    return binary(BinaryKind::kGreaterEqual, row, positions(keys));
  }
  Expr tril(Expr x, std::int64_t diagonal) { return where(below(diagonal), x, constant(x, 0)); }
  Expr triu(Expr x, std::int64_t diagonal) {
    const Expr row = reshape(positions(kQueries, DType::kI64, diagonal), {kQueries, 1});
    return where(binary(BinaryKind::kLessEqual, row, positions(kKeys)), x, constant(x, 0));
  }
  Expr ones() { return filled({kQueries, kKeys}, 1); }
  Expr negated(Expr x) { return unary(UnaryKind::kLogicalNot, x); }
  Expr both(Expr a, Expr b) { return binary(BinaryKind::kLogicalAnd, a, b); }

  Expr scores() { return matmul(q_, swapped(k_)) * 0.5; }
  Expr attend(Expr logits) { return matmul(softmax(logits), v_); }
  Expr selected(Expr seen, double hidden = -kInfinity) {
    const Expr s = scores();
    return attend(where(seen, s, constant(s, hidden)));
  }
  Expr deselected(Expr unseen, double hidden = -kInfinity) {
    const Expr s = scores();
    return attend(where(unseen, constant(s, hidden), s));
  }
  Expr masked_attention(Expr mask) {
    const op::Attention operation{0.5f, false, 0, true, false};
    return apply(op::Pick{0}, {apply(operation, {q_, k_, v_, mask})},
                 {Shape{2, 4, kQueries, 6}, DType::kF32});
  }

  /// Optimises a graph with this output, which should become one causal attention.
  void expect_causal(Expr y, int window = 0) {
    output(y);
    optimize();
    EXPECT_THAT(operations(), ElementsAre("attention")) << before_ << graph_.to_text();
    const auto attention = the<op::Attention>();
    EXPECT_TRUE(attention.causal && !attention.has_mask) << before_ << graph_.to_text();
    EXPECT_EQ(attention.window, window) << before_;
  }
  void expect_a_mask(Expr y) {
    output(y);
    optimize();
    EXPECT_THAT(operations(), Contains("attention")) << before_ << graph_.to_text();
    const auto attention = the<op::Attention>();
    EXPECT_TRUE(!attention.causal && attention.has_mask) << before_ << graph_.to_text();
  }

  // The last query sees all keys.
  static constexpr std::int64_t kDiagonal = kKeys - kQueries;
};

TEST_F(CausalMaskTest, Compared) { expect_causal(selected(below(kDiagonal))); }

TEST_F(CausalMaskTest, ComparedTheOtherWayRound) {
  const Expr row = reshape(positions(kQueries, DType::kI32) + double{kDiagonal}, {kQueries, 1});
  expect_causal(deselected(binary(BinaryKind::kLess, row, positions(kKeys, DType::kI32))));
}

TEST_F(CausalMaskTest, DifferenceOfRealPositions) {
  const Expr column = positions(kKeys, DType::kF32);
  const Expr row = reshape(positions(kQueries, DType::kF32), {kQueries, 1});
  const Expr distance = column - row;
  expect_causal(selected(binary(BinaryKind::kLess, distance, constant(distance, kDiagonal + 1))));
}

TEST_F(CausalMaskTest, TrilOfTrue) {
  expect_causal(selected(tril(filled({kQueries, kKeys}, 1, DType::kBool), kDiagonal)));
}

TEST_F(CausalMaskTest, TrilOfOnesEqualToZero) {
  const Expr mask = tril(ones(), kDiagonal);
  expect_causal(deselected(binary(BinaryKind::kEqual, mask, constant(mask, 0)), -1e9));
}

TEST_F(CausalMaskTest, AddedZeroOrInfinity) {
  const Expr s = scores();
  expect_causal(attend(s + where(below(kDiagonal), constant(s, 0), constant(s, -kInfinity))));
}

TEST_F(CausalMaskTest, TriuOfInfinity) {
  expect_causal(attend(scores() + triu(filled({kQueries, kKeys}, -kInfinity), kDiagonal + 1)));
}

TEST_F(CausalMaskTest, OneMinusTrilTimesALargeNumber) {
  const Expr mask = tril(ones(), kDiagonal);
  expect_causal(attend(scores() + (constant(mask, 1) - mask) * -1e9));
}

TEST_F(CausalMaskTest, LargeNumberSelected) { expect_causal(selected(below(kDiagonal), -1e9)); }

TEST_F(CausalMaskTest, CastAndWithMoreAxes) {
  const Expr mask = reshape(cast(tril(ones(), kDiagonal), DType::kBool), {1, 1, kQueries, kKeys});
  expect_causal(selected(broadcast(mask, {2, 4, kQueries, kKeys})));
}

TEST_F(CausalMaskTest, Window) {
  const Expr near = negated(below(kDiagonal - 2));
  expect_causal(selected(both(below(kDiagonal), near)), 2);
}

TEST_F(CausalMaskTest, WindowOfTwoTriangles) {
  const Expr mask = triu(tril(ones(), kDiagonal), kDiagonal - 2);
  expect_causal(deselected(binary(BinaryKind::kEqual, mask, constant(mask, 0))), 3);
}

TEST_F(CausalMaskTest, OfTheComposite) { expect_causal(masked_attention(below(kDiagonal))); }

TEST_F(CausalMaskTest, BesideAnotherMask) {
  const Expr padding = input({2, 1, 1, kKeys}, DType::kBool);
  output(masked_attention(both(below(kDiagonal), padding)));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("attention")) << graph_.to_text();
  EXPECT_TRUE(the<op::Attention>().causal && the<op::Attention>().has_mask) << graph_.to_text();
}

TEST_F(CausalMaskTest, OfTheGradient) {
  const op::Attention forward{0.5f, false, 0, true, false};
  const Expr mask = below(kDiagonal);
  const Expr y = apply(forward, {q_, k_, v_, mask});
  const TensorSpec spec{{2, 4, kQueries, 6}, DType::kF32};
  const TensorSpec rows{{2, 4, kQueries}, DType::kF32};
  const Expr gradients = apply(op::AttentionBackward{forward},
                               {q_, k_, v_, apply(op::Pick{0}, {y}, spec),
                                apply(op::Pick{1}, {y}, rows), input(spec.shape), mask});
  for (int i = 0; i < 3; ++i) {
    const Expr x = i == 0 ? q_ : i == 1 ? k_ : v_;
    output(apply(op::Pick{i}, {gradients}, x.spec()));
  }
  optimize();
  EXPECT_THAT(operations(), ElementsAre("attention", "attention_backward")) << graph_.to_text();
  EXPECT_TRUE(the<op::AttentionBackward>().forward.causal);
  EXPECT_FALSE(the<op::AttentionBackward>().forward.has_mask);
}

TEST_F(CausalMaskTest, OtherDiagonals) { expect_a_mask(selected(below(kDiagonal + 1))); }

TEST_F(CausalMaskTest, TheOtherTriangle) {
  const Expr row = reshape(positions(kQueries), {kQueries, 1});
  expect_a_mask(selected(binary(BinaryKind::kLessEqual, row, positions(kKeys))));
}

TEST_F(CausalMaskTest, SmallNumbersHideNothing) {
  const Expr s = scores();
  expect_a_mask(attend(s + where(below(kDiagonal), constant(s, 0), constant(s, -5))));
}

TEST_F(CausalMaskTest, SeenKeysWithABias) {
  const Expr s = scores();
  expect_a_mask(attend(s + where(below(kDiagonal), constant(s, 1), constant(s, -kInfinity))));
}

TEST_F(CausalMaskTest, QueriesWithoutKeysHiddenByANumber) {
  // More queries than keys: the first see nothing, which a finite number does not say.
  const Expr k = input({2, 4, 2, 8});
  const Expr v = input({2, 4, 2, 6});
  const Expr s = matmul(q_, swapped(k));
  output(matmul(softmax(where(below(-1, kQueries, 2), s, constant(s, -1e9))), v));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("attention"))) << graph_.to_text();
}

}  // namespace
}  // namespace metal_candle::testing
