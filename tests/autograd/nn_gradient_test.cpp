// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gradients of matrix products, layers, attention and losses.
#include <cmath>

#include "metal_candle/graph/ops.h"
#include "metal_candle/graph/ops/build.h"
#include "tests/autograd/gradient_check.h"

namespace metal_candle::testing {
namespace {

class NnGradient : public ::testing::TestWithParam<GradientCase> {};
TEST_P(NnGradient, FirstOrder) { check_first_order(GetParam()); }
TEST_P(NnGradient, Executed) { check_executed(GetParam()); }
TEST_P(NnGradient, SecondOrder) {
  if (!GetParam().second_order) GTEST_SKIP() << "not claimed";
  check_second_order(GetParam());
}

GradientCase matmul_case(const char* name, const Shape& a, const Shape& b) {
  return {name,
          {uniform(a, -1, 1, 11), uniform(b, -1, 1, 12)},
          of_tensors([](const Tensor& x, const Tensor& y) { return matmul(x, y); })};
}

GradientCase epilogue_case(const char* name, Activation activation, bool bias, bool residual,
                           float scale) {
  std::vector<HostTensor> arguments = {uniform({2, 3, 4}, -1, 1, 13), uniform({4, 5}, -1, 1, 14)};
  if (bias) arguments.push_back(uniform({5}, -1, 1, 15));
  if (residual) arguments.push_back(uniform({2, 3, 5}, -1, 1, 16));
  return {name, arguments, [=](const std::vector<Tensor>& x) {
            LinearEpilogue epilogue;
            epilogue.scale = scale;
            epilogue.activation = activation;
            if (bias) epilogue.bias = x[2];
            if (residual) epilogue.residual = x.back();
            return std::vector<Tensor>{linear_epilogue(x[0], x[1], epilogue)};
          }};
}

std::vector<GradientCase> linear_cases() {
  const HostTensor x = uniform({2, 3, 4}, -1, 1, 17);
  const HostTensor weight = uniform({4, 5}, -1, 1, 18);
  const HostTensor a = uniform({4, 2}, -1, 1, 19), b = uniform({2, 5}, -1, 1, 20);
  return {
      matmul_case("matmul", {3, 4}, {4, 2}),
      matmul_case("matmul_batch", {2, 3, 4}, {2, 4, 2}),
      matmul_case("matmul_weight", {2, 3, 4}, {4, 2}),
      matmul_case("matmul_left_broadcast", {3, 4}, {2, 4, 2}),
      matmul_case("matmul_both_broadcast", {2, 1, 3, 4}, {5, 4, 2}),
      matmul_case("matmul_vector_left", {4}, {4, 2}),
      matmul_case("matmul_vector_right", {2, 3, 4}, {4}),
      matmul_case("dot", {4}, {4}),
      matmul_case("matmul_nothing_inside", {3, 0}, {0, 2}),
      {"matmul_transposed", {x, weight}, of_tensors([](const Tensor& t, const Tensor& w) {
         return matmul(transpose(w), swapaxes(t, 1, 2));
       })},
      {"lora", {x, a, b}, of_tensors([](const Tensor& t, const Tensor& u, const Tensor& v) {
         return lora(t, u, v, 0.5f);
       })},
      {"lora_linear",
       {x, weight, a, b},
       [](const std::vector<Tensor>& t) {
         return std::vector<Tensor>{lora_linear(t[0], t[1], t[2], t[3], 2.0f)};
       }},
      {"lora_linear_bias",
       {x, weight, a, b, uniform({5})},
       [](const std::vector<Tensor>& t) {
         return std::vector<Tensor>{lora_linear(t[0], t[1], t[2], t[3], 1.0f, t[4])};
       }},
      epilogue_case("linear_scale", Activation::kNone, false, false, 0.5f),
      epilogue_case("linear_bias", Activation::kNone, true, false, 1.0f),
      epilogue_case("linear_relu", Activation::kRelu, true, false, 1.0f),
      epilogue_case("linear_relu_residual", Activation::kRelu, true, true, 1.5f),
      epilogue_case("linear_gelu_residual", Activation::kGelu, false, true, 1.0f),
      epilogue_case("linear_gelu_tanh", Activation::kGeluTanh, true, false, 1.0f),
      epilogue_case("linear_silu", Activation::kSilu, false, false, 2.0f),
  };
}

GradientCase rope_case(const char* name, const RopeOptions& options, HostTensor offset) {
  return {name,
          {uniform({2, 2, 3, 6}, -1, 1, 21), std::move(offset)},
          of_tensors([=](const Tensor& x, const Tensor& at) { return rope(x, at, options); })};
}

std::vector<GradientCase> norm_cases() {
  const HostTensor x = uniform({2, 3, 4}, -1, 1, 22);
  const HostTensor weight = uniform({4}, 0.5, 1.5, 23), bias = uniform({4}, -1, 1, 24);
  const HostTensor position = HostTensor::of_integers({}, {3});
  const HostTensor positions = HostTensor::of_integers({2}, {0, 5});
  return {
      {"rms_norm", {x}, of_tensors([](const Tensor& t) { return rms_norm(t); })},
      {"rms_norm_weight", {x, weight}, of_tensors([](const Tensor& t, const Tensor& w) {
         return rms_norm(t, w, 1e-3f);
       })},
      {"layer_norm", {x}, of_tensors([](const Tensor& t) { return layer_norm(t); })},
      {"layer_norm_weight", {x, weight}, of_tensors([](const Tensor& t, const Tensor& w) {
         return layer_norm(t, w);
       })},
      {"layer_norm_bias",
       {x, weight, bias},
       of_tensors(
           [](const Tensor& t, const Tensor& w, const Tensor& v) { return layer_norm(t, w, v); })},
      {"swiglu",
       {x, uniform({2, 3, 4}, -1, 1, 25)},
       of_tensors([](const Tensor& g, const Tensor& u) { return swiglu(g, u); })},
      {"swiglu_broadcast",
       {x, uniform({3, 1}, -1, 1, 25)},
       of_tensors([](const Tensor& g, const Tensor& u) { return swiglu(g, u); })},
      rope_case("rope", {}, position),
      rope_case("rope_partial_interleaved", {.dims = 4, .interleaved = true, .scale = 0.5f},
                positions),
      {"rope_learned_frequencies",
       {uniform({1, 2, 4}), position, uniform({2}, 0.1, 1, 26)},
       of_tensors([](const Tensor& t, const Tensor& at, const Tensor& frequencies) {
         RopeOptions options;
         options.frequencies = frequencies;
         return rope(t, at, options);
       })},
  };
}

GradientCase attention_case(const char* name, std::int64_t heads, std::int64_t key_heads,
                            std::int64_t queries, std::int64_t keys,
                            AttentionOptions (*options)()) {
  return {name,
          {uniform({2, heads, queries, 3}, -1, 1, 27), uniform({2, key_heads, keys, 3}, -1, 1, 28),
           uniform({2, key_heads, keys, 2}, -1, 1, 29)},
          of_tensors([=](const Tensor& q, const Tensor& k, const Tensor& v) {
            return scaled_dot_product_attention(q, k, v, options());
          })};
}

// Made when a test runs: tensors are not made before main().
AttentionOptions plain_options() { return {}; }
AttentionOptions causal_options() {
  AttentionOptions options;
  options.causal = true;
  return options;
}
AttentionOptions windowed_options() {
  AttentionOptions options = causal_options();
  options.window = 2;
  options.scale = 0.7f;
  return options;
}
AttentionOptions key_length_options() {
  AttentionOptions options = causal_options();
  options.key_length = to_tensor(HostTensor::of_integers({2}, {3, 5}));
  return options;
}
AttentionOptions masked_options() {
  AttentionOptions options;
  options.mask = to_tensor(HostTensor::of_integers({2, 4}, {1, 0, 1, 1, 0, 0, 0, 0}, DType::kBool));
  return options;
}

std::vector<GradientCase> attention_cases() {
  const op::Attention plain{0.5f, false, 0, false, false};
  return {
      attention_case("attention", 2, 2, 3, 4, plain_options),
      attention_case("attention_grouped_causal", 4, 2, 3, 4, causal_options),
      attention_case("attention_window", 2, 1, 4, 4, windowed_options),
      attention_case("attention_key_length", 2, 2, 2, 6, key_length_options),
      attention_case("attention_mask_hides_a_row", 1, 1, 2, 4, masked_options),
      {"attention_learned_mask",
       {uniform({1, 2, 2, 3}), uniform({1, 2, 3, 3}), uniform({1, 2, 3, 2}), uniform({2, 2, 3})},
       [](const std::vector<Tensor>& t) {
         AttentionOptions options;
         options.mask = t[3];
         return std::vector<Tensor>{scaled_dot_product_attention(t[0], t[1], t[2], options)};
       }},
      {"attention_both_outputs",
       {uniform({1, 2, 2, 3}), uniform({1, 1, 3, 3}), uniform({1, 1, 3, 2})},
       [plain](const std::vector<Tensor>& t) {
         return detail::make_outputs(plain, {&t[0], &t[1], &t[2]});
       }},
  };
}

std::vector<GradientCase> loss_cases() {
  const HostTensor logits = uniform({2, 3, 5}, -2, 2, 30);
  const HostTensor targets = HostTensor::of_integers({2, 3}, {0, 4, -100, 2, 2, 1});
  const HostTensor weight = uniform({5, 7}, -1, 1, 31);
  const auto loss = [&](const char* name, const CrossEntropyOptions& options) {
    return GradientCase{name, {logits, targets}, of_tensors([=](const Tensor& x, const Tensor& t) {
                          return cross_entropy(x, t, options);
                        })};
  };
  return {
      loss("cross_entropy", {}),
      loss("cross_entropy_sum", {.reduction = Reduction::kSum}),
      loss("cross_entropy_rows", {.reduction = Reduction::kNone}),
      {"cross_entropy_ignore_a_class",
       {logits, HostTensor::of_integers({2, 3}, {0, 4, 2, 2, 3, 1})},
       of_tensors([](const Tensor& x, const Tensor& t) {
         return cross_entropy(x, t, {.ignore_index = 2});
       })},
      {"cross_entropy_both_outputs",
       {logits, targets},
       [](const std::vector<Tensor>& t) {
         return detail::make_outputs(op::CrossEntropy{-100}, {&t[0], &t[1]});
       }},
      {"linear_cross_entropy",
       {logits, weight, targets},
       of_tensors([](const Tensor& x, const Tensor& w, const Tensor& t) {
         return linear_cross_entropy(x, w, t);
       })},
      {"linear_cross_entropy_both_outputs",
       {logits, weight, targets},
       [](const std::vector<Tensor>& t) {
         std::vector<Tensor> outputs =
             detail::make_outputs(op::LinearCrossEntropy{-100}, {&t[0], &t[1], &t[2]});
         outputs.pop_back();
         return outputs;
       }},
      {"linear_cross_entropy_frozen_weight",
       {logits, targets},
       [weight](const std::vector<Tensor>& t) {
         return std::vector<Tensor>{
             linear_cross_entropy(t[0], to_tensor(weight), t[1], {.reduction = Reduction::kNone})};
       }},
  };
}

INSTANTIATE_TEST_SUITE_P(Linear, NnGradient, ::testing::ValuesIn(linear_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Norm, NnGradient, ::testing::ValuesIn(norm_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Attention, NnGradient, ::testing::ValuesIn(attention_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Loss, NnGradient, ::testing::ValuesIn(loss_cases()), case_name);

}  // namespace
}  // namespace metal_candle::testing
