// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Switching passes on and off, and passes of a user's own.
#include "metal_candle/optimize/pass_registry.h"

#include <cstdlib>
#include <thread>

#include "metal_candle/core/error.h"
#include "metal_candle/optimize/rewrite_pass.h"
#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

template <typename Fn>
std::string message_of(Fn fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// exp(log(x)) -> x.
std::unique_ptr<FusionPass> exp_of_log() {
  using namespace pattern;
  const Var x;
  return std::make_unique<RewritePass>(
      "exp_of_log",
      std::vector<RewriteRule>{
          {exp(log(x)), nullptr, [=](ComputationGraph&, const Match& m) { return m[x]; }}});
}

class PassRegistryTest : public GraphTest {
 protected:
  void TearDown() override {
    for (const std::string& pass : pass_names()) set_pass_enabled(pass, true);
  }
  void build_softmax() {
    const Expr e = exp(input({2, 4}));
    output(e / sum(e, 1));
  }
};

TEST_F(PassRegistryTest, EveryPassHasItsNameAndTakesPart) {
  EXPECT_THAT(
      pass_names(),
      ElementsAre("dead_code", "layout", "constant_folding", "common_subexpressions", "sigmoid",
                  "silu", "gelu", "softmax", "layer_norm", "rms_norm", "linear_cross_entropy",
                  "cross_entropy", "attention", "lora", "lora_linear", "matmul_scale",
                  "matmul_bias", "matmul_activation", "matmul_residual", "product_sum", "swiglu",
                  "swiglu_product", "norm_backward_residual", "norm_linear", "lora_low",
                  "cached_attention", "elementwise_reduce", "elementwise"));
  for (const PassEntry& entry : passes_in_order(PassSet::all())) {
    EXPECT_EQ(entry.instance()->name(), entry.name);
  }
}

// What keeps something of a run is made for each.
TEST_F(PassRegistryTest, OneInstanceOfAReusablePassServesAllRuns) {
  bool some_are_not = false;
  for (const PassEntry& entry : passes_in_order(PassSet::all())) {
    const auto first = entry.instance(), second = entry.instance();
    EXPECT_EQ(first == second, first->reusable()) << entry.name;
    some_are_not = some_are_not || !first->reusable();
  }
  EXPECT_TRUE(some_are_not);
}

TEST_F(PassRegistryTest, DisabledForTheProcess) {
  set_pass_enabled("softmax", false);
  build_softmax();
  optimize(GraphOptimizer());
  EXPECT_THAT(operations(), Not(Contains("softmax")));
  set_pass_enabled("softmax", true);
  optimize(GraphOptimizer());
  EXPECT_THAT(operations(), ElementsAre("softmax"));
}

TEST_F(PassRegistryTest, DisabledForAScopeOfAThread) {
  build_softmax();
  const PassSet process = current_passes();
  const PassSet without = PassSet::all().without("softmax");
  {
    const ScopedPasses scope(without);
    EXPECT_EQ(current_passes(), without);
    {
      const ScopedPasses inner(PassSet::none());
      EXPECT_EQ(current_passes(), PassSet::none());
    }
    EXPECT_EQ(current_passes(), without);
    std::thread([&] { EXPECT_EQ(current_passes(), process); }).join();
    optimize(GraphOptimizer());
    EXPECT_THAT(operations(), Not(Contains("softmax")));
  }
  EXPECT_EQ(current_passes(), process);
}

TEST_F(PassRegistryTest, SetsAreValues) {
  const PassSet all = PassSet::all();
  const PassSet some = all.without("lora").without("gelu");
  EXPECT_FALSE(some == all);
  EXPECT_NE(some.hash(), all.hash());
  EXPECT_EQ(some, all.without("gelu").without("lora"));
  EXPECT_EQ(some.with("lora").with("gelu"), all);
  EXPECT_FALSE(some.contains("lora"));
  EXPECT_TRUE(some.contains("softmax"));
  EXPECT_FALSE(PassSet::none().contains("softmax"));
}

TEST_F(PassRegistryTest, ListsOfDisabledPasses) {
  EXPECT_EQ(parse_disabled_passes(""), PassSet::all());
  EXPECT_EQ(parse_disabled_passes("all"), PassSet::none());
  EXPECT_EQ(parse_disabled_passes("lora, gelu ,"), PassSet::all().without("lora").without("gelu"));
  const std::string message =
      message_of([] { static_cast<void>(parse_disabled_passes("lora,sofmax")); });
  EXPECT_THAT(message, AllOf(HasSubstr("\"sofmax\""), HasSubstr("softmax"), HasSubstr("lora")));
}

// The environment is read once a process, so each case needs one of its own.
TEST(PassEnvironmentDeathTest, DisablesPasses) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto run = [] {
    setenv("METAL_CANDLE_DISABLE_PASSES", "softmax,lora", 1);
    const bool right = current_passes() == PassSet::all().without("softmax").without("lora");
    std::exit(right ? 0 : 1);
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0), "");
}

TEST(PassEnvironmentDeathTest, UnknownNamesAreErrorsEachTime) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto run = [] {
    setenv("METAL_CANDLE_DISABLE_PASSES", "nonesuch", 1);
    int errors = 0;
    for (int i = 0; i < 2; ++i) {
      const std::string message = message_of([] { static_cast<void>(current_passes()); });
      if (message.find("nonesuch") != std::string::npos) ++errors;
    }
    std::exit(errors == 2 ? 0 : 1);
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0), "");
}

TEST_F(PassRegistryTest, UnknownNamesAreErrorsThatListTheKnownOnes) {
  const std::string message = message_of([] { set_pass_enabled("fusion", false); });
  EXPECT_THAT(message, AllOf(HasSubstr("\"fusion\""), HasSubstr("elementwise")));
  EXPECT_THROW(static_cast<void>(PassSet::all().without("fusion")), Error);
}

TEST_F(PassRegistryTest, PassesOfAUser) {
  const PassSet before = PassSet::all();
  register_pass("exp_of_log", exp_of_log);
  EXPECT_FALSE(PassSet::all() == before) << "plans made before must not be taken for plans of now";
  const Expr x = input({3});
  output(exp(log(x)));
  const GraphOptimizer optimizer(PassSet::all());
  const OptimizationReport report = optimizer.run(graph_);
  EXPECT_EQ(report.rewrites("exp_of_log"), 1);
  EXPECT_THAT(operations(), ElementsAre());
  EXPECT_THROW(register_pass("exp_of_log", exp_of_log), Error);
  unregister_pass("exp_of_log");
  EXPECT_THAT(pass_names(), Not(Contains("exp_of_log")));
  EXPECT_THROW(unregister_pass("exp_of_log"), Error);
  EXPECT_THROW(unregister_pass("softmax"), Error);
}

TEST_F(PassRegistryTest, ManyThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 50; ++i) {
        const std::string name = "pass_" + std::to_string(t);
        register_pass(name, exp_of_log);
        set_pass_enabled(name, i % 2 == 0);
        ComputationGraph graph;
        const NodeId x = graph.add_input(TensorLayout::contiguous({Shape{2, 4}, DType::kF32}));
        const NodeId e = graph.add(op::Unary{UnaryKind::kExp}, {x});
        const NodeId s = graph.add(op::Reduce{ReduceKind::kSum, {1}, true}, {e});
        graph.add_output(graph.add(op::Binary{BinaryKind::kDivide}, {e, s}));
        GraphOptimizer().run(graph);
        EXPECT_EQ(graph.live_size(), 2);
        unregister_pass(name);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace metal_candle::testing
