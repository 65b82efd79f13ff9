// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// vjp, grad and value_and_grad as functions: structures, orders, errors, ties, and what is not
// computed.
#include "metal_candle/autograd/grad.h"

#include <gmock/gmock.h>

#include <cmath>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/trace.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::interpret;

std::vector<double> values(const Tensor& x) { return interpret(x).real; }

template <typename E, typename Fn>
std::string message_of(Fn fn) {
  try {
    fn();
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing of that type was thrown";
  return "";
}

TEST(Grad, OfOneTensor) {
  const auto f = [](const Tensor& x) { return sum(x * x * x); };
  const Tensor x({1.0f, -2.0f, 3.0f});
  EXPECT_THAT(values(grad(f)(x)), ElementsAre(3, 12, 27));
  const auto [value, gradient] = value_and_grad(f)(x);
  EXPECT_THAT(values(value), ElementsAre(20));
  EXPECT_THAT(values(gradient), ElementsAre(3, 12, 27));
}

TEST(Grad, OfAnyOrder) {
  const auto f = [](const Tensor& x) { return x * x * x * x; };
  const Tensor x(2.0f);
  EXPECT_THAT(values(grad(f)(x)), ElementsAre(32));
  EXPECT_THAT(values(grad(grad(f))(x)), ElementsAre(48));
  EXPECT_THAT(values(grad(grad(grad(f)))(x)), ElementsAre(48));
  EXPECT_THAT(values(grad(grad(grad(grad(grad(f)))))(x)), ElementsAre(0));
}

TEST(Grad, OfAFunctionThatCapturesWhatIsDifferentiated) {
  // d/dx [x * d/dy (x * y^2)] = d/dx [2 x^2 y] = 4 x y at y = 5.
  const auto f = [](const Tensor& x) {
    const auto inner = [&](const Tensor& y) { return x * square(y); };
    return x * grad(inner)(Tensor(5.0f));
  };
  EXPECT_THAT(values(grad(f)(Tensor(3.0f))), ElementsAre(60));
}

TEST(Grad, DoesNotConfuseLevels) {
  // The inner derivative of x + y by y is 1, although x is being differentiated too.
  const auto f = [](const Tensor& x) {
    return x * grad([&](const Tensor& y) { return x + y; })(Tensor(1.0f));
  };
  EXPECT_THAT(values(grad(f)(Tensor(7.0f))), ElementsAre(1));
}

TEST(Grad, OfListsSelectsByArgnums) {
  const auto f = [](const std::vector<Tensor>& x) { return sum(x[0] * x[1] + x[2]); };
  const std::vector<Tensor> x = {Tensor({2.0f}), Tensor({3.0f}), Tensor({4.0f})};
  const std::vector<Tensor> all = grad(f)(x);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_THAT(values(all[0]), ElementsAre(3));
  EXPECT_THAT(values(all[1]), ElementsAre(2));
  EXPECT_THAT(values(all[2]), ElementsAre(1));
  const std::vector<Tensor> some = grad(f, {-1, 0})(x);
  ASSERT_EQ(some.size(), 2u);
  EXPECT_THAT(values(some[0]), ElementsAre(1));
  EXPECT_THAT(values(some[1]), ElementsAre(3));
}

TEST(Grad, OfTreesHasTheirStructure) {
  Tree params;
  params["layers"] = Tree::List{Tensor({2.0f}), Tensor({3.0f})};
  params["unused"] = Tensor({1.0f, 2.0f}, {1, 2});
  const auto f = [](const Tree& p) {
    return sum(p.at("layers").at(0).tensor() * square(p.at("layers").at(1).tensor()));
  };
  const auto [value, gradient] = value_and_grad(f)(params);
  EXPECT_TRUE(same_structure(params, gradient));
  EXPECT_THAT(values(gradient.at("layers").at(0).tensor()), ElementsAre(9));
  EXPECT_THAT(values(gradient.at("layers").at(1).tensor()), ElementsAre(12));
  EXPECT_EQ(gradient.tensor("unused").shape(), (Shape{1, 2}));
  EXPECT_THAT(values(gradient.tensor("unused")), ElementsAre(0, 0));
  EXPECT_THAT(values(value), ElementsAre(18));
}

TEST(Grad, PassesAuxiliaryResultsThrough) {
  struct Metrics {
    explicit Metrics(Tensor t) : logits(std::move(t)) {}
    Tensor logits;
  };
  const auto f = [](const Tensor& x) {
    const Tensor logits = x * 2;
    return std::pair(sum(square(logits)), Metrics(logits));
  };
  const auto result = value_and_grad(f)(Tensor({1.0f, 2.0f}));
  EXPECT_THAT(values(result.value), ElementsAre(20));
  EXPECT_THAT(values(result.gradient), ElementsAre(8, 16));
  EXPECT_THAT(values(result.aux.logits), ElementsAre(2, 4));
  EXPECT_THAT(values(grad(f)(Tensor({1.0f}))), ElementsAre(8));
}

TEST(Vjp, WeighsOutputsWithCotangents) {
  const auto f = [](const std::vector<Tensor>& x) {
    return std::vector<Tensor>{x[0] * x[1], exp(x[0]), x[1]};
  };
  const std::vector<Tensor> x = {Tensor({0.0f}), Tensor({3.0f})};
  const auto [output, gradient] = vjp(f, x, {Tensor({2.0f}), Tensor({5.0f}), Tensor({7.0f})});
  ASSERT_EQ(output.size(), 3u);
  EXPECT_THAT(values(gradient[0]), ElementsAre(11));
  EXPECT_THAT(values(gradient[1]), ElementsAre(7));
}

TEST(Vjp, OfOneOutputTwiceAndOfTheArgumentItself) {
  const auto f = [](const Tensor& x) {
    const Tensor y = square(x);
    return std::vector<Tensor>{y, y, x};
  };
  const auto result = vjp(f, Tensor({3.0f}), {Tensor({1.0f}), Tensor({10.0f}), Tensor({0.5f})});
  EXPECT_THAT(values(result.gradient), ElementsAre(66.5));
}

TEST(Vjp, OfTreeToTree) {
  const auto f = [](const Tree& t) {
    return Tree(Tree::Dict{{"y", t.tensor("a") * t.tensor("b")}});
  };
  const Tree x = Tree::Dict{{"a", Tensor({2.0f})}, {"b", Tensor({5.0f})}};
  const auto result = vjp(f, x, Tree(Tree::Dict{{"y", Tensor({1.0f})}}));
  EXPECT_THAT(values(result.gradient.tensor("a")), ElementsAre(5));
  EXPECT_THAT(values(result.gradient.tensor("b")), ElementsAre(2));
}

TEST(Grad, OfWhatDoesNotDependOnTheArgumentIsZero) {
  const Tensor constant({1.0f, 2.0f});
  const auto f = [&](const Tensor&) { return sum(constant); };
  const Tensor gradient = grad(f)(Tensor({1.0f, 2.0f, 3.0f}));
  EXPECT_EQ(gradient.shape(), Shape{3});
  EXPECT_THAT(values(gradient), ElementsAre(0, 0, 0));
}

TEST(Grad, StopsWhereAsked) {
  const auto f = [](const Tensor& x) { return sum(x * stop_gradient(x)); };
  EXPECT_THAT(values(grad(f)(Tensor({3.0f}))), ElementsAre(3));
  EXPECT_THAT(
      values(grad([](const Tensor& x) { return sum(stop_gradient(exp(x))); })(Tensor({3.0f}))),
      ElementsAre(0));
}

TEST(Grad, PassesNothingThroughIntegersAndPredicates) {
  const auto f = [](const Tensor& x) {
    const Tensor rounded = astype(astype(x, DType::kI32), DType::kF32);
    const Tensor positive = astype(x > 0.0, DType::kF32);
    const Tensor largest = astype(argmax(x, 0), DType::kF32);
    return sum(x * (rounded + positive)) + largest;
  };
  EXPECT_THAT(values(grad(f)(Tensor({2.5f, -1.5f}))), ElementsAre(3, -1));
}

TEST(Grad, TiesShareEvenly) {
  const Tensor x({1.0f, 4.0f, 4.0f, 4.0f, 4.0f});
  EXPECT_THAT(values(grad([](const Tensor& t) { return max(t) * 2; })(x)),
              ElementsAre(0, 0.5, 0.5, 0.5, 0.5));
  EXPECT_THAT(values(grad([](const Tensor& t) { return min(-t); })(x)),
              ElementsAre(0, -0.25, -0.25, -0.25, -0.25));
  EXPECT_THAT(values(grad([](const Tensor& t) { return sum(maximum(t, 4.0)); })(x)),
              ElementsAre(0, 0.5, 0.5, 0.5, 0.5));
}

TEST(Grad, IsFiniteAtTheEdgesOfDomains) {
  const auto at_zero = [](auto fn) { return values(grad(fn)(Tensor(0.0f)))[0]; };
  EXPECT_EQ(at_zero([](const Tensor& x) { return abs(x); }), 0);
  EXPECT_EQ(at_zero([](const Tensor& x) { return relu(x); }), 0);
  EXPECT_EQ(at_zero([](const Tensor& x) { return hypot(x, x * 0.0); }), 0);
  EXPECT_EQ(at_zero([](const Tensor& x) { return power(x, 2.0); }), 0);
  EXPECT_EQ(at_zero([](const Tensor& x) { return power(x, 1.0); }), 1);
  EXPECT_EQ(at_zero([](const Tensor& x) { return power(Tensor(0.0f), x + 1.0); }), 0);
}

TEST(Grad, KeepsTheDtypeOfEachArgument) {
  const auto f = [](const std::vector<Tensor>& x) { return sum(x[0] * x[1]); };
  const std::vector<Tensor> gradient =
      grad(f)({astype(Tensor({2.0f}), DType::kBF16), Tensor({3.0f})});
  EXPECT_EQ(gradient[0].dtype(), DType::kBF16);
  EXPECT_EQ(gradient[1].dtype(), DType::kF32);
}

TEST(Grad, RefusesIntegersByName) {
  const auto list = [](const std::vector<Tensor>& x) { return sum(x[0]); };
  const std::vector<Tensor> mixed = {Tensor({1.0f}), Tensor({1, 2})};
  EXPECT_THAT(message_of<DTypeError>([&] { static_cast<void>(grad(list)(mixed)); }),
              HasSubstr("argument 1 is i32 [2]"));
  EXPECT_NO_THROW(static_cast<void>(grad(list, {0})(mixed)));
  const auto of_tree = [](const Tree& t) { return sum(t.tensor("w")); };
  const Tree tree = Tree::Dict{{"ids", Tree::List{Tensor({1})}}, {"w", Tensor({1.0f})}};
  EXPECT_THAT(message_of<DTypeError>([&] { static_cast<void>(grad(of_tree)(tree)); }),
              HasSubstr("'ids.0'"));
  EXPECT_THAT(message_of<DTypeError>([] {
                static_cast<void>(grad([](const Tensor& x) { return astype(sum(x), DType::kI32); })(
                    Tensor({1.0f})));
              }),
              HasSubstr("i32"));
}

TEST(Grad, RefusesOutputsThatAreNotScalars) {
  const auto f = [](const Tensor& x) { return x * 2; };
  EXPECT_THAT(message_of<ShapeError>([&] {
                static_cast<void>(grad(f)(Tensor({1.0f, 2.0f})));
              }),
              HasSubstr("[2]"));
}

TEST(Grad, RefusesWrongArgnumsAndCotangents) {
  const auto list = [](const std::vector<Tensor>& x) { return sum(x[0]); };
  EXPECT_THROW(static_cast<void>(grad(list, {1})({Tensor({1.0f})})), ShapeError);
  const auto f = [](const Tensor& x) { return x * 2; };
  const Tensor x({1.0f, 2.0f});
  EXPECT_THROW(static_cast<void>(vjp(f, x, Tensor({1.0f}))), ShapeError);
  EXPECT_THROW(static_cast<void>(vjp(f, x, astype(x, DType::kBF16))), DTypeError);
}

TEST(Grad, OfAFunctionThatThrowsLeavesNothingBehind) {
  const auto fails = [](const Tensor&) -> Tensor { throw ShapeError("no"); };
  EXPECT_THROW(static_cast<void>(grad(fails)(Tensor(1.0f))), ShapeError);
  const Tensor x(3.0f);
  const Tensor y = square(x);
  EXPECT_FALSE(y.node()->gradient_scope());
  EXPECT_THAT(values(grad([](const Tensor& t) { return square(t); })(x)), ElementsAre(6));
}

TEST(Grad, GradientsBelongToNoScopeAfterwards) {
  const Tensor gradient = grad([](const Tensor& x) { return sum(exp(x)); })(Tensor({1.0f}));
  EXPECT_FALSE(gradient.node()->gradient_scope());
}

// With LoRA nearly all weights are frozen: nothing may be computed for them.
TEST(Grad, ComputesNothingForWhatIsNotDifferentiated) {
  const Tensor x = ones({8, 16}), weight = ones({16, 32});
  const auto count = [](const std::vector<Tensor>& outputs) {
    const ComputationGraph graph = trace_graph(outputs);
    int matmuls = 0;
    for (NodeId id = 0; id < graph.size(); ++id) matmuls += graph.get_if<op::Matmul>(id) != nullptr;
    return matmuls;
  };
  const auto f = [](const std::vector<Tensor>& p) { return sum(square(matmul(p[0], p[1]))); };
  EXPECT_EQ(count(grad(f)({x, weight})), 3);
  EXPECT_EQ(count(grad(f, {0})({x, weight})), 2);
  EXPECT_EQ(count(grad(f, {1})({x, weight})), 2);
  const auto lora_loss = [&](const std::vector<Tensor>& p) {
    return sum(lora_linear(x, weight, p[0], p[1], 2.0f));
  };
  // Of the loss itself nothing remains: dy is constant. inner = dy b^T, da = x^T inner, x a, db.
  EXPECT_EQ(count(grad(lora_loss)({ones({16, 4}), ones({4, 32})})), 4);
}

TEST(Grad, WalksChainsOfAnyLength) {
  const auto f = [](const Tensor& x) {
    Tensor y = x;
    for (int i = 0; i < 1'000'000; ++i) y = -y;
    return y;
  };
  const Tensor gradient = grad(f)(Tensor(1.0f));
  EXPECT_GE(trace_graph({gradient}).size(), 1'000'000);
}

TEST(Grad, KeepsTheGraphOfWhatIsEvaluatedInside) {
  const auto f = [](const Tensor& x) {
    const Tensor y = exp(x);
    EXPECT_GT(y.item<float>(), 0.0f);
    const Tensor z = y * x;
    z.eval();
    return sum(z);
  };
  EXPECT_THAT(values(grad(f)(Tensor(0.0f))), ElementsAre(1));
  const auto twice = [&](const Tensor& x) {
    const Tensor first = grad(f)(x);
    first.eval();
    return first;
  };
  EXPECT_THAT(values(grad(twice)(Tensor(0.0f))), ElementsAre(2));
}

}  // namespace
}  // namespace metal_candle
