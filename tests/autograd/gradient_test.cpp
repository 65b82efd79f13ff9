// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of every operation but those of nn_gradient_test.cpp, one line a case.
#include <cmath>

#include "metal_candle/graph/ops.h"
#include "tests/autograd/gradient_check.h"

namespace metal_candle::testing {
namespace {

class Gradient : public ::testing::TestWithParam<GradientCase> {};
TEST_P(Gradient, FirstOrder) { check_first_order(GetParam()); }
TEST_P(Gradient, Executed) { check_executed(GetParam()); }
TEST_P(Gradient, SecondOrder) {
  if (!GetParam().second_order) GTEST_SKIP() << "not claimed";
  check_second_order(GetParam());
}

std::vector<GradientCase> unary_cases() {
  struct Row {
    const char* name;
    Tensor (*fn)(const Tensor&);
    double low, high;
  };
  const Row rows[] = {
      {"abs", abs, -2, 2},
      {"negative", negative, -2, 2},
      {"sign", sign, -2, 2},
      {"square", square, -2, 2},
      {"floor", floor, -2, 2},
      {"ceil", ceil, -2, 2},
      {"round", round, -2, 2},
      {"trunc", trunc, -2, 2},
      {"exp", exp, -2, 2},
      {"expm1", expm1, -2, 2},
      {"log", log, 0.3, 3},
      {"log1p", log1p, -0.5, 3},
      {"log2", log2, 0.3, 3},
      {"log10", log10, 0.3, 3},
      {"sqrt", sqrt, 0.3, 3},
      {"rsqrt", rsqrt, 0.3, 3},
      {"reciprocal", reciprocal, 0.3, 3},
      {"sin", sin, -3, 3},
      {"cos", cos, -3, 3},
      {"tan", tan, -1.2, 1.2},
      {"asin", asin, -0.8, 0.8},
      {"acos", acos, -0.8, 0.8},
      {"atan", atan, -3, 3},
      {"sinh", sinh, -2, 2},
      {"cosh", cosh, -2, 2},
      {"tanh", tanh, -2, 2},
      {"asinh", asinh, -3, 3},
      {"acosh", acosh, 1.3, 4},
      {"atanh", atanh, -0.8, 0.8},
      {"erf", erf, -2, 2},
      {"erfinv", erfinv, -0.8, 0.8},
      {"sigmoid", sigmoid, -4, 4},
      {"relu", relu, -2, 2},
      {"silu", silu, -4, 4},
      {"gelu", gelu, -3, 3},
      {"gelu_tanh", gelu_tanh, -3, 3},
  };
  std::vector<GradientCase> cases;
  for (const Row& row : rows) {
    cases.push_back({row.name, {uniform({2, 5}, row.low, row.high)}, of_tensors(row.fn)});
  }
  cases.push_back({"scalar", {uniform({}, 0.5, 1)}, of_tensors(exp)});
  cases.push_back({"empty", {uniform({0, 3})}, of_tensors(exp)});
  cases.push_back({"cast", {uniform({4}, -2, 2, 1, DType::kBF16)}, [](const auto& x) {
                     return std::vector<Tensor>{astype(x[0], DType::kF32) *
                                                astype(x[0], DType::kF16)};
                   }});
  return cases;
}

std::vector<GradientCase> binary_cases() {
  using Fn = Tensor (*)(const Operand&, const Operand&);
  struct Row {
    const char* name;
    Fn fn;
    double low, high;
  };
  const Row rows[] = {{"add", add, -2, 2},
                      {"subtract", subtract, -2, 2},
                      {"multiply", multiply, -2, 2},
                      {"divide", divide, 0.4, 2},
                      {"remainder", remainder, 0.4, 2},
                      {"floor_divide", floor_divide, 0.4, 2},
                      {"power", power, 0.4, 2},
                      {"maximum", maximum, -2, 2},
                      {"minimum", minimum, -2, 2},
                      {"atan2", atan2, -2, 2},
                      {"logaddexp", logaddexp, -2, 2},
                      {"hypot", hypot, -2, 2},
                      {"copysign", copysign, -2, 2}};
  std::vector<GradientCase> cases;
  for (const Row& row : rows) {
    const auto fn = [f = row.fn](const Tensor& a, const Tensor& b) { return f(a, b); };
    const auto add_case = [&](const char* suffix, const Shape& a, const Shape& b) {
      cases.push_back({std::string(row.name) + suffix,
                       {uniform(a, row.low, row.high, 3), uniform(b, row.low, row.high, 4)},
                       of_tensors(fn)});
    };
    add_case("", {2, 3}, {2, 3});
    add_case("_rows", {2, 3}, {3});
    add_case("_both", {2, 1, 3}, {4, 1});
    add_case("_scalar", {}, {2, 2});
  }
  cases.push_back({"scalar_operands", {uniform({4})}, of_tensors([](const Tensor& x) {
                     return power(x, 3.0) + power(2.0, x) + x * 2 - 1.5 / (square(x) + 1);
                   })});
  cases.push_back({"same_operand_twice", {uniform({4})}, of_tensors([](const Tensor& x) {
                     return x * x + x / exp(x);
                   })});
  cases.push_back({"where",
                   {uniform({2, 3}), uniform({3}, -2, 2, 2)},
                   of_tensors([](const Tensor& a, const Tensor& b) {
                     return where(a > 0.0, square(a) * b, b * exp(a));
                   })});
  cases.push_back({"clip", {uniform({9})}, of_tensors([](const Tensor& x) {
                     return square(clip(x, -1.0, 1.25));
                   })});
  return cases;
}

std::vector<GradientCase> reduce_cases() {
  const HostTensor x = uniform({2, 3, 4}, -2, 2, 5);
  const auto one = [&](std::string name, auto fn, bool second_order = true) {
    return GradientCase{std::move(name), {x}, of_tensors(fn), second_order};
  };
  HostTensor with_zeros = uniform({3, 5}, 0.5, 2, 6);
  with_zeros.r(1) = with_zeros.r(5) = with_zeros.r(8) = 0;
  std::vector<GradientCase> cases = {
      one("sum", [](const Tensor& t) { return sum(t); }),
      one("sum_axis", [](const Tensor& t) { return sum(t, 1); }),
      one("sum_axes_keep",
          [](const Tensor& t) {
            return sum(square(t), {0, -1}, true);
          }),
      one("mean", [](const Tensor& t) { return mean(square(t), -1); }),
      one("prod", [](const Tensor& t) { return prod(t); }),
      one("prod_axis", [](const Tensor& t) { return prod(t, 1); }),
      one("prod_axes_keep",
          [](const Tensor& t) {
            return prod(t, {0, 2}, true);
          }),
      one("max", [](const Tensor& t) { return max(t); }),
      one("max_axis", [](const Tensor& t) { return square(max(t, 1)); }),
      one("min_axes_keep",
          [](const Tensor& t) {
            return min(t, {0, 2}, true);
          }),
      one("variance", [](const Tensor& t) { return variance(t, -1); }),
      one("std_dev", [](const Tensor& t) { return std_dev(t, 0, true, 1); }),
      one("norm", [](const Tensor& t) { return norm(t, 2); }),
      one("logsumexp", [](const Tensor& t) { return logsumexp(t, 1); }),
      one("logsumexp_axes_keep",
          [](const Tensor& t) {
            return logsumexp(t, {0, 2}, true);
          }),
      one("cumsum", [](const Tensor& t) { return square(cumsum(t, 1)); }),
      one("cumsum_reverse", [](const Tensor& t) { return cumsum(t, -1, true); }),
      one("cumprod", [](const Tensor& t) { return cumprod(t, 2); }),
      one("cumprod_reverse", [](const Tensor& t) { return cumprod(t, 1, true); }),
      one("cummax", [](const Tensor& t) { return square(cummax(t, 2)); }),
      one("cummax_reverse", [](const Tensor& t) { return cummax(t, 1, true); }),
      one("cummin", [](const Tensor& t) { return cummin(t, 0); }),
      one("cummin_reverse", [](const Tensor& t) { return cummin(t, 2, true); }),
      one("sort", [](const Tensor& t) { return square(sort(t, 1)); }),
      one("sort_descending", [](const Tensor& t) { return sort(t, -1, true) * t; }),
      one("topk", [](const Tensor& t) { return square(topk(t, 2, -1).values); }),
      one("top_p_threshold", [](const Tensor& t) { return square(top_p_threshold(t, 0.6f)); }),
      one("softmax", [](const Tensor& t) { return softmax(t, -1); }),
      one("softmax_axis", [](const Tensor& t) { return softmax(t, 0); }),
      one("log_softmax", [](const Tensor& t) { return log_softmax(t, -1); }),
      one("log_softmax_axis", [](const Tensor& t) { return log_softmax(t, 1); }),
  };
  cases.push_back(
      {"prod_with_zeros", {with_zeros}, of_tensors([](const Tensor& t) { return prod(t, 1); })});
  cases.push_back({"cumprod_with_zeros",
                   {with_zeros},
                   of_tensors([](const Tensor& t) { return cumprod(t, 1); }),
                   /*second_order=*/false});
  cases.push_back(
      {"sum_of_nothing", {uniform({0, 3})}, of_tensors([](const Tensor& t) { return sum(t, 0); })});
  return cases;
}

std::vector<GradientCase> layout_cases() {
  const HostTensor x = uniform({2, 3, 4}, -2, 2, 7);
  const auto one = [&](std::string name, auto fn) {
    // Squared, so that the gradient depends on where each element went.
    return GradientCase{
        std::move(name), {x}, of_tensors([fn](const Tensor& t) { return square(fn(t)); })};
  };
  std::vector<GradientCase> cases = {
      one("reshape",
          [](const Tensor& t) {
            return reshape(t, {4, -1});
          }),
      one("transpose", [](const Tensor& t) { return transpose(t); }),
      one("transpose_axes",
          [](const Tensor& t) {
            return transpose(t, Axes{1, 2, 0});
          }),
      one("squeeze_expand", [](const Tensor& t) { return squeeze(expand_dims(t, 1), 1); }),
      one("broadcast_to",
          [](const Tensor& t) {
            return broadcast_to(t, {5, 2, 3, 4});
          }),
      one("flip", [](const Tensor& t) { return flip(t, 1); }),
      one("slice",
          [](const Tensor& t) {
            return slice(t, {0, 1}, {2, 3});
          }),
      one("slice_steps",
          [](const Tensor& t) {
            return t.slice({{}, {.step = 2}, {.step = -3}});
          }),
      one("index", [](const Tensor& t) { return t[1]; }),
      one("concatenate",
          [](const Tensor& t) {
            return concatenate({t, exp(t), t}, 1);
          }),
      one("stack",
          [](const Tensor& t) {
            return stack({t, t * 2}, 1);
          }),
      one("split", [](const Tensor& t) { return split(t, 2, -1)[1]; }),
      one("pad",
          [](const Tensor& t) {
            return pad(t, {1, 0, 2}, {0, 1, 1}, 0.5);
          }),
      one("tile",
          [](const Tensor& t) {
            return tile(t, {2, 1, 3});
          }),
      one("repeat", [](const Tensor& t) { return repeat(t, 2, 1); }),
      one("roll", [](const Tensor& t) { return roll(t, 1, 2); }),
      one("tril", [](const Tensor& t) { return tril(t); }),
      one("triu", [](const Tensor& t) { return triu(t, 1); }),
      one("slice_of_transpose", [](const Tensor& t) { return slice(transpose(t), {1}, {3}) * 2; }),
  };
  return cases;
}

std::vector<GradientCase> index_cases() {
  const HostTensor x = uniform({3, 4}, -2, 2, 8);
  const HostTensor indices = HostTensor::of_integers({2, 2}, {2, 0, -1, 2});
  const HostTensor along = HostTensor::of_integers({3, 2}, {1, 1, -1, 0, 3, 2});
  const HostTensor start = HostTensor::of_integers({2}, {1, 7});
  const auto squared = [](auto fn) {
    return of_tensors([fn](const auto&... t) -> decltype(fn(t...)) { return square(fn(t...)); });
  };
  return {
      {"take", {x, indices}, squared([](const Tensor& t, const Tensor& i) {
         return take(t, i, 0);
       })},
      {"take_last", {x, indices}, squared([](const Tensor& t, const Tensor& i) {
         return take(t, i, 1);
       })},
      {"take_along_axis", {x, along}, squared([](const Tensor& t, const Tensor& i) {
         return take_along_axis(t, i, 1);
       })},
      {"scatter_add",
       {x, indices, uniform({2, 2, 4}, -2, 2, 9)},
       squared([](const Tensor& t, const Tensor& i, const Tensor& u) {
         return scatter_add(t, i, u, 0);
       })},
      {"scatter_add_along_axis",
       {x, along, uniform({3, 2}, -2, 2, 9)},
       squared([](const Tensor& t, const Tensor& i, const Tensor& u) {
         return scatter_add_along_axis(t, i, u, 1);
       })},
      {"slice_update",
       {x, uniform({2, 2}, -2, 2, 9)},
       squared([](const Tensor& t, const Tensor& u) {
         return slice_update(t, u, {1, 0}, {1, 2});
       })},
      {"dynamic_slice", {x, start}, squared([](const Tensor& t, const Tensor& s) {
         return dynamic_slice(t, s, {0, 1}, {2, 2});
       })},
      {"dynamic_slice_update",
       {x, uniform({1, 3}, -2, 2, 9), start},
       squared([](const Tensor& t, const Tensor& u, const Tensor& s) {
         return dynamic_slice_update(t, u, s, {0, 1});
       })},
  };
}

INSTANTIATE_TEST_SUITE_P(Unary, Gradient, ::testing::ValuesIn(unary_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Binary, Gradient, ::testing::ValuesIn(binary_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Reduce, Gradient, ::testing::ValuesIn(reduce_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Layout, Gradient, ::testing::ValuesIn(layout_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Index, Gradient, ::testing::ValuesIn(index_cases()), case_name);

}  // namespace
}  // namespace metal_candle::testing
