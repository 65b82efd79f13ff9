// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Trees of tensors: order, paths, structure and errors.
#include "metal_candle/autograd/tree.h"

#include <gmock/gmock.h>

#include "metal_candle/graph/ops.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle {
namespace {

using ::testing::ElementsAre;

Tree example() {
  Tree tree;
  tree["b"] = Tree::List{Tensor({1.0f}), Tree::Dict{{"w", Tensor({2.0f, 3.0f})}}};
  tree["a"] = Tensor({4.0f});
  tree["c"] = Tree::Dict{};
  return tree;
}

TEST(Tree, VisitsKeysInLexicographicOrder) {
  const Tree tree = example();
  EXPECT_EQ(tree.size(), 3u);
  EXPECT_THAT(tree.paths(), ElementsAre("a", "b.0", "b.1.w"));
  const std::vector<Tensor> leaves = tree.leaves();
  ASSERT_EQ(leaves.size(), 3u);
  EXPECT_TRUE(leaves[0].same_node(tree.tensor("a")));
  EXPECT_TRUE(leaves[2].same_node(tree.at("b").at(1).tensor("w")));
  EXPECT_THAT(Tree(Tensor({1.0f})).paths(), ElementsAre(""));
}

TEST(Tree, WithLeavesKeepsStructure) {
  const Tree tree = example();
  std::vector<Tensor> leaves = tree.leaves();
  std::swap(leaves[0], leaves[1]);
  const Tree swapped = tree.with_leaves(leaves);
  EXPECT_TRUE(same_structure(tree, swapped));
  EXPECT_TRUE(swapped.tensor("a").same_node(tree.at("b").at(0).tensor()));
  leaves.pop_back();
  EXPECT_THROW(static_cast<void>(tree.with_leaves(leaves)), Error);
}

TEST(Tree, MapsOneOrTwoTrees) {
  const Tree tree = example();
  const Tree doubled = tree.map([](const Tensor& x) { return x * 2; });
  const Tree sum = map([](const Tensor& x, const Tensor& y) { return x + y; }, tree, doubled);
  EXPECT_THAT(testing::interpret(sum.at("b").at(1).tensor("w")).real, ElementsAre(6, 9));
  EXPECT_THROW(static_cast<void>(map([](const Tensor& x, const Tensor&) { return x; }, tree,
                                     Tree(Tensor({1.0f})))),
               Error);
}

TEST(Tree, ComparesStructure) {
  Tree other = example();
  EXPECT_TRUE(same_structure(example(), other));
  other["d"] = Tensor({1.0f});
  EXPECT_FALSE(same_structure(example(), other));
  EXPECT_FALSE(same_structure(Tree::List{}, Tree::Dict{}));
  EXPECT_FALSE(same_structure(Tree::List{Tensor({1.0f})}, Tree::List{Tree::List{}}));
}

TEST(Tree, WrongKindsAreErrors) {
  const Tree tree = example();
  EXPECT_THROW(static_cast<void>(tree.tensor()), Error);
  EXPECT_THROW(static_cast<void>(tree.list()), Error);
  EXPECT_THROW(static_cast<void>(tree.at("missing")), Error);
  EXPECT_THROW(static_cast<void>(tree.at("b").at(2)), Error);
  EXPECT_THROW(static_cast<void>(tree.at("a").dict()), Error);
}

}  // namespace
}  // namespace metal_candle
