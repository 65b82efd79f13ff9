// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Custom gradients and checkpoints.
#include "metal_candle/autograd/custom.h"

#include <gmock/gmock.h>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/trace.h"
#include "tests/autograd/gradient_check.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle {
namespace {

using ::testing::ElementsAre;
using testing::interpret;

std::vector<double> values(const Tensor& x) { return interpret(x).real; }

TensorFunction clipped_gradient() {
  return custom_vjp([](const std::vector<Tensor>& x) { return std::vector<Tensor>{x[0] * 1}; },
                    [](const std::vector<Tensor>&, const std::vector<Tensor>&,
                       const std::vector<Tensor>& cotangents) {
                      return std::vector<Tensor>{clip(cotangents[0], -1.0, 1.0)};
                    });
}

TEST(CustomVjp, UsesTheRule) {
  const TensorFunction clipped = clipped_gradient();
  const Tensor x({1.0f, 5.0f});
  EXPECT_THAT(values(clipped({x})[0]), ElementsAre(1, 5));
  EXPECT_THAT(values(grad([&](const Tensor& t) { return sum(square(clipped({t})[0])); })(x)),
              ElementsAre(1, 1));
}

TEST(CustomVjp, WorksInEveryMode) {
  testing::check_executed({"clipped", {testing::uniform({3, 4})}, clipped_gradient()});
}

TEST(CustomVjp, GivesZerosForOutputsThatAreNotUsed) {
  const TensorFunction fn = custom_vjp(
      [](const std::vector<Tensor>& x) {
        return std::vector<Tensor>{x[0] * x[1], x[0] + x[1]};
      },
      [](const std::vector<Tensor>& x, const std::vector<Tensor>& y,
         const std::vector<Tensor>& dy) {
        EXPECT_EQ(y.size(), 2u);
        return std::vector<Tensor>{dy[0] * x[1] + dy[1], Tensor()};
      });
  const auto f = [&](const std::vector<Tensor>& x) { return sum(fn(x)[0]); };
  const std::vector<Tensor> gradient = grad(f)({Tensor({2.0f}), Tensor({3.0f})});
  EXPECT_THAT(values(gradient[0]), ElementsAre(3));
  EXPECT_THAT(values(gradient[1]), ElementsAre(0));
}

TEST(CustomVjp, RuleIsDifferentiatedForHigherOrders) {
  const TensorFunction cube = custom_vjp(
      [](const std::vector<Tensor>& x) { return std::vector<Tensor>{power(x[0], 3.0)}; },
      [](const std::vector<Tensor>& x, const std::vector<Tensor>&, const std::vector<Tensor>& dy) {
        return std::vector<Tensor>{dy[0] * square(x[0]) * 3.0};
      });
  const auto f = [&](const Tensor& x) { return cube({x})[0]; };
  EXPECT_THAT(values(grad(grad(f))(Tensor(2.0f))), ElementsAre(12));
}

TEST(CustomVjp, RefusesCapturedDifferentiatedTensors) {
  const auto f = [](const Tensor& x) {
    const Tensor hidden = exp(x);
    const TensorFunction fn =
        custom_vjp([&](const std::vector<Tensor>& t) { return std::vector<Tensor>{t[0] * hidden}; },
                   [](const std::vector<Tensor>&, const std::vector<Tensor>&,
                      const std::vector<Tensor>& dy) { return dy; });
    return fn({x})[0];
  };
  EXPECT_THROW(static_cast<void>(grad(f)(Tensor(1.0f))), Error);
}

TEST(CustomVjp, ChecksTheNumberOfGradients) {
  const TensorFunction fn =
      custom_vjp([](const std::vector<Tensor>& x) { return std::vector<Tensor>{x[0] + x[1]}; },
                 [](const std::vector<Tensor>&, const std::vector<Tensor>&,
                    const std::vector<Tensor>& dy) { return dy; });
  const auto f = [&](const std::vector<Tensor>& x) { return sum(fn(x)[0]); };
  EXPECT_THROW(static_cast<void>(grad(f)({Tensor({1.0f}), Tensor({1.0f})})), Error);
}

std::vector<Tensor> layer(const std::vector<Tensor>& x) {
  const Tensor hidden = gelu(matmul(x[0], x[1]));
  return {matmul(hidden, transpose(x[1])) + take(x[0], x[2], 0), sum(hidden, -1)};
}

std::vector<testing::HostTensor> layer_arguments() {
  return {testing::uniform({3, 4}, -1, 1, 1), testing::uniform({4, 5}, -1, 1, 2),
          testing::HostTensor::of_integers({3}, {2, 2, 0})};
}

TEST(Checkpoint, HasTheGradientsOfTheFunction) {
  testing::check_first_order({"checkpoint", layer_arguments(), checkpoint(layer)});
  testing::check_second_order({"checkpoint", layer_arguments(), checkpoint(layer)});
  testing::check_executed({"checkpoint", layer_arguments(), checkpoint(layer)});
  testing::check_first_order({"nested", layer_arguments(), checkpoint(checkpoint(layer))});
}

TEST(Checkpoint, ComputesAgainBehindABarrier) {
  const Tensor x = ones({4, 4});
  const auto count = [&](bool with_checkpoint) {
    const std::function<Tensor(const Tensor&)> body = [](const Tensor& t) {
      return exp(exp(exp(t)));
    };
    const auto fn = with_checkpoint ? checkpoint(body) : body;
    const auto result = value_and_grad([&](const Tensor& t) { return sum(fn(t)); })(x);
    const ComputationGraph graph = trace_graph({result.value, result.gradient});
    int exps = 0, barriers = 0;
    for (NodeId id = 0; id < graph.size(); ++id) {
      const auto* unary = graph.get_if<op::Unary>(id);
      exps += unary != nullptr && unary->kind == UnaryKind::kExp;
      barriers += graph.get_if<op::Barrier>(id) != nullptr;
    }
    return std::pair(exps, barriers);
  };
  EXPECT_EQ(count(false), std::pair(3, 0));
  EXPECT_EQ(count(true), std::pair(6, 1));
}

TEST(Checkpoint, WithoutDifferentiationIsTheFunction) {
  const std::function<Tensor(const Tensor&)> body = [](const Tensor& t) { return exp(t); };
  EXPECT_THAT(values(checkpoint(body)(Tensor({0.0f}))), ElementsAre(1));
}

TEST(Checkpoint, CapturesConstantsButNotDifferentiatedTensors) {
  const Tensor weight({2.0f, 3.0f});
  const std::function<Tensor(const Tensor&)> constant = [&](const Tensor& t) {
    return square(t) * weight;
  };
  EXPECT_THAT(values(grad([&](const Tensor& t) { return sum(checkpoint(constant)(t)); })(
                  Tensor({1.0f, 1.0f}))),
              ElementsAre(4, 6));
  const auto captures = [](const Tensor& t) {
    const std::function<Tensor(const Tensor&)> body = [t](const Tensor& u) { return u * t; };
    return sum(checkpoint(body)(exp(t)));
  };
  EXPECT_THROW(static_cast<void>(grad(captures)(Tensor({1.0f}))), Error);
  const auto stops = [](const Tensor& t) {
    const std::function<Tensor(const Tensor&)> body = [t](const Tensor& u) {
      return u * stop_gradient(t) * astype(argmax(t, 0), DType::kF32);
    };
    return sum(checkpoint(body)(t));
  };
  EXPECT_THAT(values(grad(stops)(Tensor({1.0f, 4.0f}))), ElementsAre(1, 4));
}

TEST(Checkpoint, MayDifferentiateInside) {
  const std::function<Tensor(const Tensor&)> body = [](const Tensor& t) {
    return grad([](const Tensor& u) { return u * u * u; })(t);
  };
  EXPECT_THAT(values(grad([&](const Tensor& t) { return checkpoint(body)(t); })(Tensor(2.0f))),
              ElementsAre(12));
}

}  // namespace
}  // namespace metal_candle
