// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The plan cache: what is found, what is not, what is thrown out.
#include "metal_candle/execute/plan_cache.h"

#include <gtest/gtest.h>

#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

Tensor input() { return Tensor({1.0f, 2.0f, 3.0f, 4.0f}); }

/// Plans made and found by fn.
struct Lookups {
  std::uint64_t made, found;
  friend bool operator==(const Lookups&, const Lookups&) = default;
};
template <typename Fn>
Lookups lookups(Fn&& fn) {
  const Counters before = counters();
  fn();
  const Counters after = counters();
  return {after.plans_made - before.plans_made, after.plan_hits - before.plan_hits};
}

TEST(PlanCache, TheSameStructureIsPlannedOnce) {
  const auto run = [](const Tensor& x) { (exp(x * 0.123) + 4.56).eval(); };
  EXPECT_EQ(lookups([&] { run(input()); }), (Lookups{1, 0}));
  EXPECT_EQ(lookups([&] { run(input()); }), (Lookups{0, 1}));
  EXPECT_EQ(lookups([&] { run(input() * 1.0 + input()); }).found, 0u);
}

TEST(PlanCache, ValuesOfInputsDoNotMatterAttributesDo) {
  const auto run = [](const Tensor& x, const Tensor& rate, double constant) {
    return (x * rate + constant + 0.625).to_vector<float>()[0];
  };
  EXPECT_EQ(run(input(), Tensor(2.0f), 1), 3.625f);
  EXPECT_EQ(lookups([&] { EXPECT_EQ(run(input(), Tensor(5.0f), 1), 6.625f); }), (Lookups{0, 1}));
  EXPECT_EQ(lookups([&] { EXPECT_EQ(run(input(), Tensor(5.0f), 2), 7.625f); }), (Lookups{1, 0}));
}

TEST(PlanCache, ShapesDtypesAndLayoutsMatter) {
  const auto run = [](const Tensor& x) { return lookups([&] { (x - 0.031).eval(); }).made; };
  const Tensor square = reshape(arange(0.0f, 9.0f), {3, 3}).eval();
  EXPECT_EQ(run(square), 1u);
  EXPECT_EQ(run(square), 0u);
  EXPECT_EQ(run(transpose(square).eval()), 1u);
  EXPECT_EQ(run(reshape(square, {9}).eval()), 1u);
  EXPECT_EQ(run(astype(square, DType::kF16).eval()), 1u);
  EXPECT_EQ(run(zeros({4, 3}).eval()), 1u);
}

TEST(PlanCache, PassesAndConnectionsMatter) {
  const Tensor x = input();
  const auto run = [&](bool same) {
    const Tensor a = x * 0.377;
    return lookups([&] { (a + (same ? a : x * 0.378)).eval(); }).made;
  };
  EXPECT_EQ(run(true), 1u);
  EXPECT_EQ(run(false), 1u);
  EXPECT_EQ(run(true), 0u);
  const ScopedPasses passes(PassSet::all().without("elementwise"));
  EXPECT_EQ(run(true), 1u);
}

TEST(PlanCache, TheOrderOfOutputsMatters) {
  const Tensor x = input();
  const auto run = [&](bool swapped) {
    const Tensor a = x * 0.771, b = x + 0.765625;
    const auto result = lookups([&] { swapped ? eval(b, a) : eval(a, b); });
    EXPECT_FLOAT_EQ(a.to_vector<float>()[0], 0.771f);
    EXPECT_FLOAT_EQ(b.to_vector<float>()[0], 1.765625f);
    return result.made;
  };
  EXPECT_EQ(run(false), 1u);
  EXPECT_EQ(run(true), 1u);
  EXPECT_EQ(run(true), 0u);
}

TEST(PlanCache, NewHandlesOfTheSameGraphDoNotMatter) {
  // Claims are taken in order of address, which changes; the structure must not.
  for (int i = 0; i < 20; ++i) {
    const Lookups result = lookups([&] {
      const Tensor x = input();
      std::vector<Tensor> outputs;
      for (int k = 0; k < 6; ++k) outputs.push_back(x + 0.0625 * k);
      eval(outputs);
    });
    EXPECT_EQ(result.made, i == 0 ? 1u : 0u);
  }
}

std::shared_ptr<const CompiledGraph> compiled(const Tensor& output) {
  Node* const root[] = {output.node().get()};
  const Trace trace(root);
  return compile(trace, PassSet::all(), Device::cpu());
}

std::shared_ptr<const CompiledGraph> found(PlanCache& cache, const Tensor& output,
                                           std::uint64_t hash,
                                           const PassSet& passes = PassSet::all()) {
  Node* const root[] = {output.node().get()};
  const Trace trace(root);
  return cache.find(trace, hash, passes, Device::cpu());
}

TEST(PlanCache, EqualHashesAreNotTrusted) {
  const Tensor x = input();
  const Tensor a = x + 1.0, b = x + 2.0, c = x + 3.0;
  PlanCache cache;
  constexpr std::uint64_t kHash = 42;
  const auto plan_a = compiled(a), plan_b = compiled(b);
  cache.insert(kHash, plan_a);
  cache.insert(kHash, plan_b);
  EXPECT_EQ(found(cache, a, kHash), plan_a);
  EXPECT_EQ(found(cache, b, kHash), plan_b);
  EXPECT_EQ(found(cache, c, kHash), nullptr);
  EXPECT_EQ(found(cache, a, kHash + 1), nullptr);
  EXPECT_EQ(found(cache, a, kHash, PassSet::none()), nullptr);
}

TEST(PlanCache, IsBoundedAndKeepsWhatIsUsed) {
  const Tensor x = input();
  PlanCache cache;
  const Tensor first = x + 1.0;
  const auto plan = compiled(first);
  cache.insert(0, plan);
  for (std::uint64_t i = 1; i < 3 * PlanCache::kCapacity; ++i) {
    cache.insert(i, plan);
    // The first is used all the while, the second never.
    EXPECT_EQ(found(cache, first, 0), plan);
    ASSERT_LE(cache.size(), PlanCache::kCapacity);
  }
  EXPECT_EQ(cache.size(), PlanCache::kCapacity);
  EXPECT_EQ(found(cache, first, 1), nullptr);
  EXPECT_EQ(found(cache, first, 3 * PlanCache::kCapacity - 1), plan);
  cache.clear();
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_EQ(found(cache, first, 0), nullptr);
}

TEST(PlanCache, EvaluationEvictsToo) {
  const std::uint64_t before = counters().plans_evicted;
  const Tensor x = input();
  for (std::size_t i = 0; i < PlanCache::kCapacity + 50; ++i) {
    EXPECT_EQ((x + static_cast<double>(i)).to_vector<float>()[0], 1.0f + static_cast<float>(i));
  }
  EXPECT_GE(counters().plans_evicted - before, 50u);
}

}  // namespace
}  // namespace metal_candle
