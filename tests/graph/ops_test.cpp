// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the public functions add to shape rules: promotion, defaults, normalised axes, and errors
// about arguments. Nothing here is evaluated.
#include "metal_candle/graph/ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/build.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;

Tensor make(const Shape& shape, DType dtype = DType::kF32) { return zeros(shape, dtype); }

#define EXPECT_SPEC(tensor, expected_shape, expected_dtype)              \
  do {                                                                   \
    const Tensor made = (tensor);                                        \
    EXPECT_EQ(to_string(made.shape()), to_string(Shape expected_shape)); \
    EXPECT_EQ(name(made.dtype()), name(DType::expected_dtype));          \
  } while (false)

// fn throws E with a message that has each of these parts.
template <typename E, typename Fn>
void expect_error(Fn fn, std::initializer_list<const char*> parts) {
  try {
    static_cast<void>(fn());
    ADD_FAILURE() << "was not refused: " << *parts.begin();
  } catch (const Error& error) {
    EXPECT_EQ(typeid(error), typeid(E)) << error.what();
    for (const char* part : parts) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(Ops, Creation) {
  EXPECT_SPEC(full({2, 3}, 1.5), ({2, 3}), kF32);
  EXPECT_SPEC(full({}, true), ({}), kBool);
  EXPECT_SPEC(full({1}, 7), ({1}), kI32);
  EXPECT_SPEC(full({1}, std::int64_t{7}), ({1}), kI64);
  EXPECT_SPEC(zeros_like(make({2}, DType::kI8)), ({2}), kI8);
  EXPECT_SPEC(full_like(make({2}, DType::kF16), 3), ({2}), kF16);
  EXPECT_SPEC(arange(5), ({5}), kI32);
  EXPECT_SPEC(arange(5, 0, -2), ({3}), kI32);
  EXPECT_SPEC(arange(0.0f, 1.0f, 0.25f), ({4}), kF32);
  EXPECT_SPEC(arange(3, 1), ({0}), kI32);
  EXPECT_SPEC(arange(INT64_MIN, INT64_MAX, INT64_MAX), ({3}), kI64);
  EXPECT_SPEC(linspace(0, 1, 7, true, DType::kF16), ({7}), kF16);
  EXPECT_SPEC(eye(3, 4), ({3, 4}), kF32);
  expect_error<ShapeError>([] { return arange(0, 5, 0); }, {"arange", "step"});
  expect_error<DTypeError>([] { return full({1}, 300, DType::kU8); }, {"full", "300", "u8"});
  expect_error<DTypeError>([] { return full({1}, 1e30, DType::kI32); }, {"full", "i32"});
  expect_error<ShapeError>([] { return zeros({-1}); }, {"full", "[-1]"});
}

TEST(Ops, Promotion) {
  const Tensor i = make({2}, DType::kI32), f = make({2}), h = make({2}, DType::kF16);
  const Tensor b = make({2}, DType::kBool), byte = make({2}, DType::kU8);
  EXPECT_SPEC(i + f, ({2}), kF32);
  EXPECT_SPEC(h + make({2}, DType::kBF16), ({2}), kF32);
  EXPECT_SPEC(h * 2.5, ({2}), kF16);
  EXPECT_SPEC(2 - h, ({2}), kF16);
  EXPECT_SPEC(i * 2.5f, ({2}), kF32);
  EXPECT_SPEC(byte + 1, ({2}), kU8);
  EXPECT_SPEC(b + 1, ({2}), kI32);
  EXPECT_SPEC(b + b, ({2}), kI32);
  EXPECT_SPEC(i / i, ({2}), kF32);
  EXPECT_SPEC(h / 3, ({2}), kF16);
  EXPECT_SPEC(i % 3, ({2}), kI32);
  EXPECT_SPEC(i < 0.5, ({2}), kBool);
  EXPECT_SPEC(maximum(b, b), ({2}), kBool);
  EXPECT_SPEC(logical_and(i, f), ({2}), kBool);
  EXPECT_SPEC(b & true, ({2}), kBool);
  EXPECT_SPEC(i << 3, ({2}), kI32);
  EXPECT_SPEC(exp(i), ({2}), kF32);
  EXPECT_SPEC(floor(i), ({2}), kI32);
  EXPECT_SPEC(relu(i), ({2}), kI32);
  EXPECT_SPEC(isnan(i), ({2}), kBool);
  EXPECT_SPEC(power(i, 2), ({2}), kI32);
  EXPECT_SPEC(where(b, 1, h), ({2}), kF16);
  EXPECT_SPEC(where(i, 1, 2.0), ({2}), kF32);
  EXPECT_SPEC(clip(i, 0, std::nullopt), ({2}), kI32);
  EXPECT_SPEC(isclose(h, f), ({2}), kBool);
  EXPECT_SPEC(allclose(h, f), ({}), kBool);
  expect_error<DTypeError>([&] { return byte + 300; }, {"add", "300", "u8"});
  expect_error<Error>([] { return add(1, 2); }, {"add", "tensor"});
  expect_error<Error>([&] { return f + Tensor(); }, {"add", "empty"});
  expect_error<DTypeError>([&] { return f & f; }, {"bitwise_and", "f32[2]"});
  expect_error<ShapeError>([&] { return f + make({3}); }, {"add", "[2]", "[3]"});
}

TEST(Ops, WhatChangesNothingIsTheSameNode) {
  const Tensor x = make({2, 3});
  EXPECT_TRUE(astype(x, DType::kF32).same_node(x));
  EXPECT_TRUE(reshape(x, {2, -1}).same_node(x));
  EXPECT_TRUE(transpose(x, {0, 1}).same_node(x));
  EXPECT_TRUE(broadcast_to(x, {2, 3}).same_node(x));
  EXPECT_TRUE(slice(x, {0}, {Range::kEnd}).same_node(x));
  EXPECT_TRUE(pad(x, {0, 0}, {0, 0}).same_node(x));
  EXPECT_TRUE(roll(x, 3, 1).same_node(x));
  EXPECT_TRUE(sum(x, Axes{}).same_node(x));
}

TEST(Ops, Reductions) {
  const Tensor x = make({2, 3, 4}), b = make({2, 3}, DType::kBool);
  EXPECT_SPEC(sum(x), ({}), kF32);
  EXPECT_SPEC(sum(x, {}, true), ({1, 1, 1}), kF32);
  EXPECT_SPEC(sum(x, -1), ({2, 3}), kF32);
  EXPECT_SPEC(sum(x, {-1, 0}), ({3}), kF32);
  EXPECT_SPEC(sum(b, 0), ({3}), kI32);
  EXPECT_SPEC(sum(make({2}, DType::kI64)), ({}), kI64);
  EXPECT_SPEC(prod(make({2}, DType::kU8)), ({}), kI32);
  EXPECT_SPEC(mean(b), ({}), kF32);
  EXPECT_SPEC(mean(make({2}, DType::kBF16)), ({}), kBF16);
  EXPECT_SPEC(max(b, 1), ({2}), kBool);
  EXPECT_SPEC(any(x, 1), ({2, 4}), kBool);
  EXPECT_SPEC(variance(make({5}, DType::kF16), 0, true), ({1}), kF16);
  EXPECT_SPEC(std_dev(x, {1, 2}), ({2}), kF32);
  EXPECT_SPEC(norm(x, -1), ({2, 3}), kF32);
  EXPECT_SPEC(logsumexp(x, {0, 2}), ({3}), kF32);
  EXPECT_SPEC(logsumexp(x, {}, true), ({1, 1, 1}), kF32);
  EXPECT_SPEC(argmax(x), ({}), kI32);
  EXPECT_SPEC(argmin(b, -1, true), ({2, 1}), kI32);
  EXPECT_SPEC(cumsum(b, 0), ({2, 3}), kI32);
  EXPECT_SPEC(cummax(b, 1), ({2, 3}), kBool);
  EXPECT_SPEC(sort(b), ({2, 3}), kBool);
  EXPECT_SPEC(topk(x, 2, 1).values, ({2, 2, 4}), kF32);
  EXPECT_SPEC(topk(x, 2, 1).indices, ({2, 2, 4}), kI32);
  expect_error<ShapeError>([&] { return sum(x, 3); }, {"sum", "axis 3"});
  expect_error<ShapeError>([&] { return sum(x, {0, -3}); }, {"sum", "twice"});
  expect_error<ShapeError>([&] { return max(make({0})); }, {"reduce_max", "[0]"});
  EXPECT_SPEC(top_p_threshold(x, 0.5f), ({2, 3, 1}), kF32);
  EXPECT_SPEC(top_p_threshold(astype(x, DType::kI32), 1.0f), ({2, 3, 1}), kF32);
  EXPECT_SPEC(random::draw(x, zeros({2, 3, 1})), ({2, 3}), kI32);
  EXPECT_SPEC(random::draw(arange(4), zeros({1})), ({}), kI32);
  expect_error<ShapeError>([&] { return random::draw(x, zeros({2, 3})); }, {"draw", "[2, 3]"});
  expect_error<ShapeError>([&] { return random::draw(zeros({}), zeros({})); }, {"draw"});
  for (const float p : {0.0f, 1.1f, -1.0f}) {
    expect_error<Error>([&] { return top_p_threshold(x, p); }, {"top_p_threshold", "p is"});
  }
  expect_error<ShapeError>([&] { return topk(x, 5); }, {"topk", "k = 5", "[2, 3, 4]"});
}

TEST(Ops, MatrixProducts) {
  EXPECT_SPEC(matmul(make({3}), make({3})), ({}), kF32);
  EXPECT_SPEC(matmul(make({3}), make({5, 3, 4})), ({5, 4}), kF32);
  EXPECT_SPEC(matmul(make({5, 2, 3}), make({3})), ({5, 2}), kF32);
  EXPECT_SPEC(matmul(make({2, 3}, DType::kI8), make({3, 4}, DType::kI8)), ({2, 4}), kI32);
  EXPECT_SPEC(matmul(make({2, 3}, DType::kF16), make({3, 4})), ({2, 4}), kF32);
  EXPECT_SPEC(outer(make({3}), make({2, 2})), ({3, 4}), kF32);
  EXPECT_SPEC(inner(make({5, 2, 3}), make({4, 3})), ({5, 2, 4}), kF32);
  EXPECT_SPEC(dot(make({3}), make({3})), ({}), kF32);
  EXPECT_SPEC(linear(make({3}), make({3, 4}), make({4})), ({4}), kF32);
  EXPECT_SPEC(addmm(make({4}), make({2, 3}), make({3, 4}), 2, 3), ({2, 4}), kF32);
  EXPECT_SPEC(lora(make({3}), make({3, 2}), make({2, 4})), ({4}), kF32);
  EXPECT_SPEC(lora_linear(make({5, 3}), make({3, 4}), make({3, 2}), make({2, 4}), 1, make({4})),
              ({5, 4}), kF32);
  EXPECT_SPEC(linear_epilogue(make({3}), make({3, 4}), {.bias = make({4}), .residual = make({4})}),
              ({4}), kF32);
  expect_error<ShapeError>(
      [] {
        return matmul(make({2, 3}), make({4, 5}));
      },
      {"matmul: inner dimensions differ: [2, 3] @ [4, 5]"});
  expect_error<ShapeError>([] { return matmul(make({}), make({4})); }, {"matmul", "[] @ [4]"});
  expect_error<ShapeError>(
      [] {
        return linear(make({2, 3}), make({3, 4}), make({3}));
      },
      {"linear", "[3]", "[3, 4]"});
  expect_error<ShapeError>(
      [] {
        return addmm(make({3, 1, 1}), make({2, 3}), make({3, 4}));
      },
      {"addmm", "[3, 1, 1]"});
  expect_error<DTypeError>(
      [] {
        return lora(make({5, 3}, DType::kBF16), make({3, 2}), make({2, 4}));
      },
      {"lora", "bf16[5, 3]"});
}

TEST(Ops, Layout) {
  const Tensor x = make({2, 3, 4});
  EXPECT_SPEC(reshape(x, {4, -1}), ({4, 6}), kF32);
  EXPECT_SPEC(flatten(x, 1), ({2, 12}), kF32);
  EXPECT_SPEC(flatten(make({})), ({1}), kF32);
  EXPECT_SPEC(transpose(x), ({4, 3, 2}), kF32);
  EXPECT_SPEC(transpose(x, {-1, 0, 1}), ({4, 2, 3}), kF32);
  EXPECT_SPEC(swapaxes(x, 0, -1), ({4, 3, 2}), kF32);
  EXPECT_SPEC(moveaxis(x, 0, -1), ({3, 4, 2}), kF32);
  EXPECT_SPEC(squeeze(make({1, 2, 1})), ({2}), kF32);
  EXPECT_SPEC(squeeze(make({1, 2, 1}), -1), ({1, 2}), kF32);
  EXPECT_SPEC(expand_dims(x, {0, -1}), ({1, 2, 3, 4, 1}), kF32);
  EXPECT_SPEC(broadcast_to(x, {5, 2, 3, 4}), ({5, 2, 3, 4}), kF32);
  EXPECT_SPEC(flip(x, {0, 1}), ({2, 3, 4}), kF32);
  EXPECT_SPEC(concatenate({x, make({2, 1, 4}, DType::kI32)}, 1), ({2, 4, 4}), kF32);
  EXPECT_SPEC(stack({x, x}, -1), ({2, 3, 4, 2}), kF32);
  EXPECT_EQ(split(x, 2, -1).size(), 2u);
  EXPECT_SPEC(split(x, 2, -1)[1], ({2, 3, 2}), kF32);
  EXPECT_SPEC(split_at(x, std::vector<std::int64_t>{1, 1}, 1)[2], ({2, 2, 4}), kF32);
  EXPECT_SPEC(pad(x, {1, 0, 0}, {0, 0, 2}, 1.5), ({3, 3, 6}), kF32);
  EXPECT_SPEC(tile(make({2, 3}), {2, 1, 2}), ({2, 2, 6}), kF32);
  EXPECT_SPEC(tile(make({2, 3}), {0}), ({2, 0}), kF32);
  EXPECT_SPEC(repeat(x, 3, 1), ({2, 9, 4}), kF32);
  EXPECT_SPEC(tril(x), ({2, 3, 4}), kF32);
  expect_error<ShapeError>(
      [&] {
        return reshape(x, {5, -1});
      },
      {"reshape", "[2, 3, 4]", "[5, -1]"});
  expect_error<ShapeError>([&] { return reshape(x, {-1, -1}); }, {"reshape", "[2, 3, 4]"});
  expect_error<ShapeError>([&] { return reshape(make({0}), {0, -1}); }, {"reshape", "[0]"});
  expect_error<ShapeError>([&] { return transpose(x, {0, 1}); }, {"transpose", "[2, 3, 4]"});
  expect_error<ShapeError>([&] { return squeeze(x, 1); }, {"squeeze", "axis 1", "[2, 3, 4]"});
  expect_error<ShapeError>([&] { return expand_dims(x, 4); }, {"expand_dims", "axis 4"});
  expect_error<ShapeError>(
      [&] {
        return expand_dims(make({1, 1, 1, 1, 1, 1, 1, 1}), 0);
      },
      {"expand_dims", "dimensions"});
  expect_error<ShapeError>([&] { return split(x, 3, 2)[0]; }, {"split", "[2, 3, 4]"});
  expect_error<ShapeError>([&] { return stack({x, make({2})}); }, {"stack", "[2, 3, 4]", "[2]"});
  expect_error<ShapeError>([&] { return pad(x, {-1, 0, 0}, {0, 0, 0}); }, {"pad", "[-1, 0, 0]"});
  expect_error<DTypeError>([&] { return pad(make({2}, DType::kI32), {1}, {1}, 0.5); },
                           {"pad", "0.5", "i32"});
  expect_error<ShapeError>([&] { return tril(make({2})); }, {"tril", "[2]"});
}

TEST(Ops, SlicesAsPython) {
  const Tensor x = make({5, 4});
  constexpr std::int64_t kEnd = Range::kEnd;
  const auto rows = [&](Range range) { return x.slice({range}).shape()[0]; };
  EXPECT_EQ(rows({1, 3, 1}), 2);
  EXPECT_EQ(rows({-2, kEnd, 1}), 2);
  EXPECT_EQ(rows({kEnd, -1, 1}), 4);
  EXPECT_EQ(rows({0, 100, 2}), 3);
  EXPECT_EQ(rows({-100, 100, 1}), 5);
  EXPECT_EQ(rows({3, 1, 1}), 0);
  EXPECT_EQ(rows({kEnd, kEnd, -1}), 5);
  EXPECT_EQ(rows({kEnd, kEnd, -2}), 3);
  EXPECT_EQ(rows({3, 0, -1}), 3);
  EXPECT_EQ(rows({100, -100, -1}), 5);
  EXPECT_EQ(rows({0, kEnd, INT64_MAX}), 1);
  EXPECT_EQ(rows({kEnd, kEnd, INT64_MIN}), 1);
  EXPECT_SPEC(x[-1], ({4}), kF32);
  EXPECT_SPEC(x.slice({{0, 3}, {.step = 2}}), ({3, 2}), kF32);
  expect_error<ShapeError>([&] { return x[5]; }, {"index", "5", "[5, 4]"});
  expect_error<ShapeError>([&] { return make({})[0]; }, {"index", "[]"});
  expect_error<ShapeError>([&] { return x.slice({{0, 1, 0}}); }, {"slice", "step", "[5, 4]"});
  expect_error<ShapeError>([&] { return x.slice({{}, {}, {}}); }, {"slice", "[5, 4]"});
}

TEST(Ops, Indexing) {
  const Tensor x = make({9, 4}), i = make({2, 3}, DType::kU8);
  EXPECT_SPEC(take(x, i, 0), ({2, 3, 4}), kF32);
  EXPECT_SPEC(take(x, i, -1), ({9, 2, 3}), kF32);
  EXPECT_SPEC(take(x, i), ({2, 3}), kF32);
  EXPECT_SPEC(take_along_axis(x, make({2, 4}, DType::kU32), 0), ({2, 4}), kF32);
  EXPECT_SPEC(scatter_add(x, i, make({2, 3, 4}, DType::kF16)), ({9, 4}), kF32);
  EXPECT_SPEC(slice_update(x, make({2, 4}), {-2, 0}), ({9, 4}), kF32);
  EXPECT_SPEC(dynamic_slice(x, make({}, DType::kI64), {-1}, {9, 2}), ({9, 2}), kF32);
  EXPECT_SPEC(dynamic_slice_update(x, make({1, 4}), make({}, DType::kI32), {0}), ({9, 4}), kF32);
  EXPECT_SPEC(one_hot(i, 7), ({2, 3, 7}), kF32);
  expect_error<DTypeError>([&] { return take(x, make({2}), 0); }, {"take", "f32[2]"});
  expect_error<ShapeError>([&] { return take(x, i, 2); }, {"take", "axis 2"});
  expect_error<ShapeError>(
      [&] {
        return slice_update(x, make({2, 4}), {8, 0});
      },
      {"slice_update", "[9, 4]", "[2, 4]"});
}

TEST(Ops, NeuralNetworks) {
  const Tensor x = make({2, 5, 8}, DType::kBF16), w = make({8});
  EXPECT_SPEC(softmax(make({2, 3}, DType::kI32), 0), ({2, 3}), kF32);
  EXPECT_SPEC(rms_norm(x, w), ({2, 5, 8}), kBF16);
  EXPECT_SPEC(layer_norm(x, {}, w), ({2, 5, 8}), kBF16);
  EXPECT_SPEC(swiglu(x, make({8})), ({2, 5, 8}), kF32);
  EXPECT_SPEC(rope(x, 3, {.dims = 4, .interleaved = true}), ({2, 5, 8}), kBF16);
  EXPECT_SPEC(rope(x, make({2}, DType::kI64)), ({2, 5, 8}), kBF16);
  const Tensor q = make({2, 6, 5, 8}), k = make({2, 3, 7, 8});
  EXPECT_SPEC(
      scaled_dot_product_attention(q, k, k, {.causal = true, .key_length = make({2}, DType::kI64)}),
      ({2, 6, 5, 8}), kF32);
  const Tensor targets = make({2, 5}, DType::kU8);
  EXPECT_SPEC(cross_entropy(x, targets), ({}), kF32);
  EXPECT_SPEC(cross_entropy(x, targets, {.reduction = Reduction::kNone}), ({2, 5}), kF32);
  EXPECT_SPEC(
      linear_cross_entropy(x, make({8, 9}, DType::kBF16), targets, {.reduction = Reduction::kSum}),
      ({}), kF32);
  expect_error<ShapeError>([&] { return rms_norm(x, make({7})); },
                           {"rms_norm", "[2, 5, 8]", "[7]"});
  expect_error<ShapeError>(
      [&] {
        return scaled_dot_product_attention(q, k, make({2, 3, 6, 8}));
      },
      {"attention", "[2, 3, 6, 8]"});
  expect_error<ShapeError>([&] { return cross_entropy(x, make({2}, DType::kI32)); },
                           {"cross_entropy", "[2, 5, 8]", "[2]"});
  expect_error<DTypeError>(
      [&] {
        return cross_entropy(x, make({2, 5}));
      },
      {"cross_entropy", "f32[2, 5]"});
}

TEST(Ops, Random) {
  const Tensor key = random::key(7);
  EXPECT_SPEC(key, ({2}), kU32);
  EXPECT_SPEC(random::split(key, 3), ({3, 2}), kU32);
  EXPECT_SPEC(random::fold_in(key, 9), ({2}), kU32);
  EXPECT_SPEC(random::fold_in(key, make({1}, DType::kI64)), ({2}), kU32);
  EXPECT_SPEC(random::uniform({3}, key, 0, make({1}), DType::kF16), ({3}), kF16);
  EXPECT_SPEC(random::normal({3, 4}, key), ({3, 4}), kF32);
  EXPECT_SPEC(random::bernoulli(0.5, {3}, key), ({3}), kBool);
  EXPECT_SPEC(random::randint(-3, 4, {3}, key, DType::kI8), ({3}), kI8);
  EXPECT_SPEC(random::categorical(make({2, 9}), key), ({2}), kI32);
  EXPECT_SPEC(random::permutation(9, key), ({9}), kI32);
  EXPECT_SPEC(random::dropout(make({3}, DType::kBF16), 0.1, key), ({3}), kBF16);
  expect_error<ShapeError>([&] { return random::bits({2}, make({3}, DType::kU32)); },
                           {"random_bits", "[3]"});
  expect_error<ShapeError>([&] { return random::uniform({2}, key, make({3}), 1); }, {"[2]", "[3]"});
  expect_error<ShapeError>(
      [&] {
        return random::uniform({2}, key, make({3, 2}), 1);
      },
      {"uniform", "[2]"});
  expect_error<ShapeError>([&] { return random::randint(4, 4, {2}, key); }, {"randint"});
  expect_error<DTypeError>([&] { return random::randint(0, 300, {2}, key, DType::kU8); },
                           {"randint", "299", "u8"});
  expect_error<ShapeError>([&] { return random::dropout(make({2}), 1, key); }, {"dropout"});
}

TEST(Ops, DevicesDoNotMix) {
  const Tensor here = make({2}), there = zeros({2}, DType::kF32, Device{DeviceType::kCuda, 1});
  expect_error<DeviceError>([&] { return here + there; }, {"add", "cpu", "cuda:1"});
  expect_error<DeviceError>(
      [&] {
        return concatenate({here, there});
      },
      {"concatenate", "cpu", "cuda:1"});
  EXPECT_EQ((there * 2 + 1).device(), there.device());
  EXPECT_EQ(sum(there).device(), there.device());
}

}  // namespace
}  // namespace metal_candle
