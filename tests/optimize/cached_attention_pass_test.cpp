// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/optimize/lowering.h"
#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

class CachedAttentionPassTest : public GraphTest {
 protected:
  Expr rotated(Expr x) { return apply(rope_, {x, offset_, frequencies_}); }
  static Expr placed(Expr cache, Expr rows, Expr start) {
    return apply(op::DynamicSliceUpdate{{2}}, {cache, rows, start});
  }
  Expr attended(Expr q, Expr keys, Expr values) {
    Shape shape = q.shape();
    shape.back() = values.shape().back();
    const Expr both = apply(attention_, {q, keys, values, length_});
    return apply(op::Pick{0}, {both}, {shape, DType::kF32});
  }
  void expect_stays() {
    const OptimizationReport report = optimize();
    EXPECT_EQ(report.rewrites("cached_attention"), 0) << graph_.to_text();
  }

  op::Rope rope_{6, false, false, 0.5f};
  op::Attention attention_{0.5f, true, 0, false, true};
  Expr q_ = input({2, 6, 1, 8}), k_ = input({2, 3, 1, 8}), v_ = input({2, 3, 1, 4});
  Expr keys_ = input({2, 3, 7, 8}), values_ = input({2, 3, 7, 4});
  Expr offset_ = indices({}, 6), frequencies_ = input({3});
  Expr length_ = offset_ + 1.0;
  Expr start_ = reshape(offset_, {1});
};

TEST_F(CachedAttentionPassTest, AStepOfDecoding) {
  const Expr keys = placed(keys_, rotated(k_), start_), values = placed(values_, v_, start_);
  output(attended(rotated(q_), keys, values));
  output(keys);
  output(values);
  output(length_);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise", "cached_attention")) << graph_.to_text();
  EXPECT_EQ(the<op::CachedAttention>(), (op::CachedAttention{rope_, attention_}));
}

TEST_F(CachedAttentionPassTest, CachesThatNobodyKeeps) {
  output(attended(rotated(q_), placed(keys_, rotated(k_), start_), placed(values_, v_, start_)));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise", "cached_attention")) << graph_.to_text();
}

TEST_F(CachedAttentionPassTest, SeveralLayers) {
  Expr q = q_;
  for (int layer = 0; layer < 3; ++layer) {
    const Expr keys = placed(input({2, 3, 7, 8}), rotated(k_ + 1.0 * layer), start_);
    const Expr values = placed(input({2, 3, 7, 4}), v_, start_);
    const Expr y = attended(rotated(q), keys, values);
    output(keys);
    output(values);
    q = q_ * sum(y, 3);
  }
  output(q);
  const OptimizationReport report = optimize();
  EXPECT_EQ(report.rewrites("cached_attention"), 3) << graph_.to_text();
}

TEST_F(CachedAttentionPassTest, IsDecomposedWhereThereIsNoKernel) {
  const Expr keys = placed(keys_, rotated(k_), start_), values = placed(values_, v_, start_);
  output(attended(rotated(q_), keys, values));
  output(keys);
  output(values);
  optimize_for_backend(graph_, GraphOptimizer(PassSet::all()),
                       [](const Operation& operation, std::span<const TensorSpec>) {
                         return !std::holds_alternative<op::CachedAttention>(operation);
                       });
  expect_well_formed(graph_);
  EXPECT_THAT(operations(),
              UnorderedElementsAre("elementwise", "rope", "rope", "reshape", "dynamic_slice_update",
                                   "dynamic_slice_update", "attention"))
      << graph_.to_text();
}

TEST_F(CachedAttentionPassTest, RefusesSeveralQueries) {
  const Expr keys = placed(keys_, rotated(input({2, 3, 2, 8})), start_);
  const Expr values = placed(values_, input({2, 3, 2, 4}), start_);
  output(attended(rotated(input({2, 6, 2, 8})), keys, values));
  expect_stays();
}

TEST_F(CachedAttentionPassTest, RefusesWhatElseReadsTheCaches) {
  const Expr keys = placed(keys_, rotated(k_), start_), values = placed(values_, v_, start_);
  // Which the query could depend on.
  output(attended(rotated(q_ * sum(max(keys, 2), 1)), keys, values));
  expect_stays();
}

TEST_F(CachedAttentionPassTest, RefusesALogsumexpThatIsRead) {
  const Expr keys = placed(keys_, rotated(k_), start_), values = placed(values_, v_, start_);
  const Expr both = apply(attention_, {rotated(q_), keys, values, length_});
  output(apply(op::Pick{0}, {both}, {Shape{2, 6, 1, 4}, DType::kF32}));
  output(apply(op::Pick{1}, {both}, {Shape{2, 6, 1}, DType::kF32}));
  expect_stays();
}

TEST_F(CachedAttentionPassTest, RefusesOtherPlaces) {
  const Expr elsewhere = reshape(indices({}, 6), {1});
  output(
      attended(rotated(q_), placed(keys_, rotated(k_), elsewhere), placed(values_, v_, elsewhere)));
  output(attended(rotated(q_ + 1.0), placed(keys_, rotated(k_ + 1.0), start_),
                  placed(values_, v_, elsewhere)));
  expect_stays();
}

TEST_F(CachedAttentionPassTest, RefusesAnotherRotation) {
  const Expr key = apply(op::Rope{4, false, false, 0.5f}, {k_, offset_, input({2})});
  output(attended(rotated(q_), placed(keys_, key, start_), placed(values_, v_, start_)));
  const Expr other = apply(rope_, {k_, offset_, input({3})});
  output(attended(rotated(q_ + 1.0), placed(keys_, other, start_), placed(values_, v_, start_)));
  expect_stays();
}

TEST_F(CachedAttentionPassTest, RefusesAnOffsetOfEachBatch) {
  const Expr offsets = indices({2}, 6);
  const auto turned = [&](Expr x) { return apply(rope_, {x, offsets, frequencies_}); };
  output(attended(turned(q_), placed(keys_, turned(k_), start_), placed(values_, v_, start_)));
  expect_stays();
}

TEST_F(CachedAttentionPassTest, RefusesPartsOfRows) {
  const Expr key = rotated(input({2, 2, 1, 8}));
  output(attended(rotated(q_), placed(keys_, key, start_), placed(values_, v_, start_)));
  expect_stays();
}

}  // namespace
}  // namespace metal_candle::testing
