// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Decompositions: their specs equal those of the composite, they end in primitives, and computed in
// double precision they equal the composite's definition to rounding.
#include "metal_candle/graph/decompose.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "metal_candle/graph/shape_rules.h"
#include "tests/graph/shape_cases.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle {
namespace {

using shape_cases::bf16;
using shape_cases::boolean;
using shape_cases::f16;
using shape_cases::f32;
using shape_cases::i32;
using shape_cases::i64;
using testing::HostTensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

HostTensor random_tensor(const TensorSpec& spec, std::mt19937& generator) {
  HostTensor x(spec);
  std::normal_distribution<double> normal;
  for (double& value : x.real) value = normal(generator);
  for (std::int64_t& value : x.integer) value = static_cast<std::int64_t>(generator() % 2);
  return x;
}

std::vector<HostTensor> random_tensors(const std::vector<TensorSpec>& specs) {
  std::mt19937 generator(20);
  std::vector<HostTensor> tensors;
  for (const TensorSpec& spec : specs) tensors.push_back(random_tensor(spec, generator));
  return tensors;
}

std::vector<NodeId> add_inputs(ComputationGraph& graph, const std::vector<HostTensor>& inputs) {
  std::vector<NodeId> ids;
  for (const HostTensor& input : inputs) {
    ids.push_back(graph.add_input(TensorLayout::contiguous(input.spec)));
  }
  return ids;
}

OutputSpecs output_specs(const Operation& operation, const std::vector<HostTensor>& inputs) {
  std::vector<const TensorSpec*> refs;
  for (const HostTensor& input : inputs) refs.push_back(&input.spec);
  return infer_outputs(operation, refs, {});
}

// The composite as it is defined.
std::vector<HostTensor> defined(const Operation& operation, const std::vector<HostTensor>& inputs) {
  std::vector<const HostTensor*> refs;
  for (const HostTensor& input : inputs) refs.push_back(&input);
  return testing::interpret_operation(operation, refs, output_specs(operation, inputs).specs[0]);
}

// Decomposes each composite that a decomposition made, and so on: none may come back.
void expect_ends_in_primitives(ComputationGraph graph) {
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (graph.node(id).is_input() || !is_composite(graph.node(id).operation)) continue;
    const std::vector<NodeId> inputs = graph.node(id).inputs;
    const std::vector<NodeId> outputs = decompose(graph, graph.node(id).operation, inputs);
    EXPECT_EQ(graph.node(outputs[0]).spec, graph.node(id).spec);
    ASSERT_LT(graph.size(), 1000) << "a cycle through " << name(graph.node(id).operation);
  }
}

void check(const Operation& operation, const std::vector<HostTensor>& inputs) {
  std::vector<TensorSpec> input_specs;
  for (const HostTensor& input : inputs) input_specs.push_back(input.spec);
  SCOPED_TRACE(shape_cases::describe(operation, input_specs, {}));
  ASSERT_TRUE(is_composite(operation));
  ComputationGraph graph;
  const std::vector<NodeId> ids = add_inputs(graph, inputs);
  const std::vector<NodeId> outputs = decompose(graph, operation, ids);
  const OutputSpecs specs = output_specs(operation, inputs);
  ASSERT_EQ(outputs.size(), static_cast<std::size_t>(specs.count));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    EXPECT_EQ(graph.node(outputs[i]).spec, specs.specs[i]) << "output " << i;
    graph.add_output(outputs[i]);
  }
  expect_ends_in_primitives(graph);
  const std::vector<HostTensor> actual = testing::interpret(graph, inputs);
  const std::vector<HostTensor> expected = defined(operation, inputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    EXPECT_TRUE(all_close(actual[i], expected[i], {1e-9, 1e-11})) << "output " << i;
  }
}

void check(const Operation& operation, const std::vector<TensorSpec>& inputs) {
  check(operation, random_tensors(inputs));
}

TEST(Decompose, Activations) {
  for (const UnaryKind kind : {UnaryKind::kSigmoid, UnaryKind::kRelu, UnaryKind::kGelu,
                               UnaryKind::kGeluTanh, UnaryKind::kSilu}) {
    check(op::Unary{kind}, {f32({3, 5})});
    check(op::Unary{kind}, {bf16({0})});
    check(op::Unary{kind}, {f16({})});
  }
  check(op::SwiGlu{}, {f32({3, 5}), f32({3, 5})});
  check(op::SwiGlu{}, {f16({3, 1}), f16({5})});
  check(op::SwiGluBackward{}, {f32({3, 5}), f32({3, 5}), f32({3, 5})});
  check(op::SwiGluBackward{true}, {f32({3, 5}), f32({3, 5}), f32({3, 4}), f32({4, 5})});
}

TEST(Decompose, ElementwisePrograms) {
  auto program = std::make_shared<ElementwiseProgram>();
  program->inputs = {DType::kF32, DType::kI32, DType::kF32};
  program->instructions = {{op::Cast{}, DType::kF32, {1}},
                           {op::Unary{UnaryKind::kSilu}, DType::kF32, {0}},
                           {op::Full{Scalar::from_real(1.5)}, DType::kF32, {}},
                           {op::Binary{BinaryKind::kMultiply}, DType::kF32, {4, 5}},
                           {op::Binary{BinaryKind::kAdd}, DType::kF32, {3, 6}}};
  check(op::Elementwise{program}, {f32({4, 1}), i32({3}), f32({})});
  // The last operand is not read, and still has a say in the shape.
  check(op::Elementwise{program}, {f32({4, 1}), i32({3}), f32({2, 1, 1})});
  for (const ReduceKind kind : {ReduceKind::kSum, ReduceKind::kMax, ReduceKind::kAny}) {
    for (const bool keepdims : {false, true}) {
      check(op::ElementwiseReduce{{program}, {kind, {0, 2}, keepdims}},
            {f32({4, 1}), i32({3}), f32({2, 1, 1})});
    }
  }
}

TEST(Decompose, Softmax) {
  for (const int axis : {0, 1, 2}) {
    check(op::Softmax{axis}, {f32({2, 3, 4})});
    check(op::LogSoftmax{axis}, {bf16({2, 3, 4})});
    check(op::LogSumExp{axis, axis == 1}, {f16({2, 3, 4})});
    check(op::SoftmaxBackward{axis}, {f32({2, 3, 4}), f32({2, 3, 4})});
  }
  check(op::Softmax{1}, {f32({2, 0})});
  check(op::LogSoftmax{0}, {f32({2, 0})});
  check(op::LogSumExp{1, false}, {f32({0, 3})});
}

TEST(Decompose, TopPThreshold) {
  for (const float p : {0.1f, 0.5f, 0.93f}) {
    check(op::TopPThreshold{p}, {f32({2, 3, 7})});
    check(op::TopPThreshold{p}, {bf16({50})});
    check(op::TopPThreshold{p}, {f32({3, 1})});
    check(op::TopPThreshold{p}, {f32({0, 3})});
  }
  const std::vector<double> rows = {-kInfinity, 2, 1, -kInfinity, -kInfinity, -kInfinity, 1, 1, 1};
  check(op::TopPThreshold{0.6f}, {HostTensor::of({3, 3}, rows)});
}

TEST(Decompose, Draw) {
  for (const std::int64_t n : {1, 7, 256, 257, 1000}) {
    for (const double u : {0.0, 0.3, 0.9, 0.999}) {
      const HostTensor x = random_tensors({f32({2, 3, n})})[0];
      check(op::Draw{}, {x, HostTensor::of({2, 3, 1}, {u, u / 2, u, u / 3, 0.5, u * u})});
    }
  }
  check(op::Draw{}, {random_tensors({bf16({50})})[0], HostTensor::of({1}, {0.5})});
  check(op::Draw{}, {HostTensor({0, 3}, DType::kF32), HostTensor({0, 1}, DType::kF32)});
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> rows = {
      -kInfinity, 2, -kInfinity, -kInfinity, -kInfinity, -kInfinity, 1, kNan, 1, 1, kInfinity, 1};
  check(op::Draw{}, {HostTensor::of({4, 3}, rows), HostTensor::of({4, 1}, {0.9, 0.5, 0.5, 0.5})});
}

TEST(Decompose, LogSumExpOfInfinities) {
  const std::vector<double> rows = {-kInfinity, -kInfinity, 1, kInfinity, -kInfinity, 2};
  check(op::LogSumExp{1, false}, {HostTensor::of({3, 2}, rows)});
  // Beyond what exp() can hold in f32, let alone f16.
  check(op::LogSumExp{0, true}, {HostTensor::of({2}, {1000, 1001})});
}

TEST(Decompose, Norms) {
  constexpr float kEps = 1e-3f;
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 5}, Shape{5}, Shape{0, 5}}) {
    const TensorSpec x = f32(shape), d = f32({5});
    check(op::RmsNorm{kEps}, {x});
    check(op::RmsNorm{kEps}, {x, d});
    check(op::RmsNormBackward{kEps}, {x, x});
    check(op::RmsNormBackward{kEps}, {x, d, x});
    check(op::RmsNormBackward{kEps, true}, {x, d, x, x});
    check(op::LayerNorm{kEps}, {x});
    check(op::LayerNorm{kEps}, {x, d});
    check(op::LayerNorm{kEps}, {x, d, d});
    check(op::LayerNormBackward{kEps}, {x, x});
    check(op::LayerNormBackward{kEps}, {x, d, x});
  }
  check(op::RmsNormBackward{kEps}, {bf16({3, 5}), bf16({5}), bf16({3, 5})});
  check(op::LayerNorm{kEps}, {f16({3, 5}), f16({5}), f16({5})});
}

TEST(Decompose, Rope) {
  const HostTensor one = HostTensor::of_integers({}, {7});
  const HostTensor two = HostTensor::of_integers({2}, {3, -4});
  const auto rope = [](const op::Rope& operation, const TensorSpec& x, const HostTensor& offset) {
    const auto inputs = random_tensors({x, f32({operation.dims / 2})});
    check(operation, {inputs[0], offset, inputs[1]});
  };
  for (const bool interleaved : {false, true}) {
    rope({6, interleaved, false, 1}, f32({5, 6}), one);
    rope({4, interleaved, false, 0.5f}, f32({2, 3, 5, 6}), one);
    rope({4, interleaved, true, 1}, f32({2, 3, 5, 6}), two);
    rope({2, interleaved, false, 1}, bf16({2, 5, 6}), two);
    rope({2, interleaved, false, 1}, f32({2, 1, 2, 1, 2, 1, 3, 4}), two);
    rope({6, interleaved, false, 1}, f32({2, 0, 6}), one);
  }
}

TEST(Decompose, LinearLayers) {
  const TensorSpec x = f32({2, 5, 3}), w = f32({3, 7}), a = f32({3, 2}), b = f32({2, 7});
  const TensorSpec bias = f32({7}), y = f32({2, 5, 7});
  check(op::Lora{2}, {x, a, b});
  check(op::Lora{1}, {bf16({5, 3}), bf16({3, 0}), bf16({0, 7})});
  check(op::LoraLinear{0.5f, false}, {x, w, a, b});
  check(op::LoraLinear{0.5f, true}, {x, w, a, b, bias});
  check(op::LoraLinear{0.5f, true, true}, {x, w, a, b, bias});
  for (const op::Activation activation :
       {op::Activation::kNone, op::Activation::kRelu, op::Activation::kGelu,
        op::Activation::kGeluTanh, op::Activation::kSilu}) {
    check(op::Linear{activation, false, false, 2}, {x, w});
    check(op::Linear{activation, true, false, 1}, {x, w, bias});
    check(op::Linear{activation, false, true, 1}, {x, f32({2, 3, 7}), y});
    check(op::Linear{activation, true, true, 0.5f}, {x, w, bias, y});
    check(op::NormLinear{1e-5f, false, {activation, true, true, 0.5f}},
          {x, f32({w.shape[0]}), w, bias, y});
  }
}

TEST(Decompose, ProductSum) {
  const TensorSpec a = f32({2, 3, 5}), b = f32({5, 7}), c = f32({2, 3, 4}), d = f32({4, 7});
  check(op::ProductSum{2, false}, {a, b, c, d});
  check(op::ProductSum{3, true}, {a, b, c, d, c, d, f32({2, 3, 7})});
}

TEST(Decompose, NormLinear) {
  const op::Linear plain{op::Activation::kNone, false, false, 1};
  const TensorSpec x = f32({1, 2, 5}), norm = f32({5}), w = f32({5, 7});
  check(op::NormLinear{1e-6f, false, plain}, {x, norm, w});
  check(op::NormLinear{1e-6f, true, plain}, {x, norm, w, w});
  check(op::NormLinear{1e-6f, true, plain}, {bf16({3, 5}), bf16({5}), bf16({5, 7}), bf16({5, 7})});
}

struct AttentionCase {
  op::Attention operation;
  std::vector<HostTensor> extra = {};  // Mask, key length.
};

std::vector<AttentionCase> attention_cases() {
  const HostTensor see = random_tensors({boolean({5, 7})})[0];
  HostTensor added = random_tensors({f32({2, 1, 5, 7})})[0];
  for (std::int64_t j = 0; j < 7; ++j) added.r(j) = -kInfinity;  // A query that sees nothing.
  const HostTensor length = HostTensor::of_integers({}, {4});
  const HostTensor lengths = HostTensor::of_integers({2}, {7, 3});
  return {
      {{0.5f, false, 0, false, false}},       {{0.5f, true, 0, false, false}},
      {{0.5f, true, 2, false, false}},        {{1, false, 0, true, false}, {see}},
      {{1, true, 0, true, false}, {added}},   {{1, false, 0, false, true}, {length}},
      {{1, true, 3, false, true}, {lengths}}, {{1, true, 3, true, true}, {see, lengths}},
  };
}

void check_attention(const AttentionCase& c, const std::vector<TensorSpec>& qkv) {
  std::vector<HostTensor> inputs = random_tensors(qkv);
  inputs.insert(inputs.end(), c.extra.begin(), c.extra.end());
  check(c.operation, inputs);
  // The gradient, at what attention gave.
  const std::vector<HostTensor> outputs = defined(c.operation, inputs);
  std::mt19937 generator(21);
  std::vector<HostTensor> backward(inputs.begin(), inputs.begin() + 3);
  backward.insert(backward.end(), outputs.begin(), outputs.end());
  backward.push_back(random_tensor(outputs[0].spec, generator));
  backward.insert(backward.end(), c.extra.begin(), c.extra.end());
  check(op::AttentionBackward{c.operation}, backward);
}

TEST(Decompose, Attention) {
  for (const AttentionCase& c : attention_cases()) {
    check_attention(c, {f32({2, 6, 5, 4}), f32({2, 3, 7, 4}), f32({2, 3, 7, 2})});
    check_attention(c, {bf16({2, 2, 5, 4}), bf16({2, 2, 7, 4}), bf16({2, 2, 7, 4})});
  }
}

TEST(Decompose, AttentionWithoutElements) {
  const AttentionCase plain{{1, true, 0, false, false}};
  check_attention(plain, {f32({2, 6, 5, 4}), f32({2, 3, 0, 4}), f32({2, 3, 0, 2})});
  check_attention(plain, {f32({2, 6, 0, 4}), f32({2, 3, 7, 4}), f32({2, 3, 7, 2})});
  check_attention(plain, {f32({2, 0, 5, 4}), f32({2, 0, 7, 4}), f32({2, 0, 7, 2})});
  check_attention(plain, {f32({0, 6, 5, 4}), f32({0, 3, 7, 4}), f32({0, 3, 7, 2})});
}

TEST(Decompose, CachedAttention) {
  const HostTensor length = HostTensor::of_integers({}, {4});
  const HostTensor lengths = HostTensor::of_integers({2}, {7, 3});
  const HostTensor turns = HostTensor::of({2}, {1, 0.25});
  for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{3}}) {
    for (const std::int64_t offset : {std::int64_t{-2}, std::int64_t{3}, std::int64_t{9}}) {
      std::vector<HostTensor> inputs =
          random_tensors({f32({2, 6, rows, 6}), f32({2, 3, rows, 6}), f32({2, 3, rows, 2}),
                          f32({2, 3, 7, 6}), f32({2, 3, 7, 2})});
      inputs.push_back(HostTensor::of_integers({}, {offset}));
      inputs.push_back(turns);
      inputs.push_back(rows == 1 ? length : lengths);
      check(op::CachedAttention{{4, false, false, 0.5f}, {0.5f, true, 0, false, true}}, inputs);
      check(op::CachedAttention{{4, true, true, 1}, {1, true, 2, false, true}}, inputs);
    }
  }
}

TEST(Decompose, CrossEntropies) {
  for (const std::int64_t ignore : {std::int64_t{-100}, std::int64_t{2}, std::int64_t{1} << 40}) {
    for (const DType dtype : {DType::kI32, DType::kI64}) {
      std::vector<std::int64_t> classes = {0, 8, 2, -1, 2, 5};
      if (ignore == -100) classes[1] = ignore;
      const HostTensor targets = HostTensor::of_integers({2, 3}, classes, dtype);
      const auto random =
          random_tensors({bf16({2, 3, 9}), f32({2, 3}), f32({2, 3}), f32({2, 3, 4}), f32({4, 9})});
      check(op::CrossEntropy{ignore}, {random[0], targets});
      check(op::CrossEntropyBackward{ignore}, {random[0], targets, random[1], random[2]});
      check(op::LinearCrossEntropy{ignore}, {random[3], random[4], targets});
      check(op::LinearCrossEntropyBackward{ignore},
            {random[3], random[4], targets, random[1], random[2]});
    }
  }
  check(op::CrossEntropy{-100}, {f32({0, 9}), i64({0})});
}

TEST(Decompose, TakesTheOperationFromTheGraphItself) {
  ComputationGraph graph;
  const NodeId x = graph.add_input(TensorLayout::contiguous(f32({2, 3})));
  const NodeId y = graph.add(op::Softmax{1}, {x});
  // Adding nodes moves the operation and the inputs that are passed here.
  const auto outputs = decompose(graph, graph.node(y).operation, graph.node(y).inputs);
  EXPECT_EQ(graph.node(outputs[0]).spec, f32({2, 3}));
}

TEST(Decompose, PrimitivesHaveNone) {
  ComputationGraph graph;
  const NodeId x = graph.add_input(TensorLayout::contiguous(f32({2, 3})));
  EXPECT_THROW(static_cast<void>(decompose(graph, op::Reshape{}, std::vector{x})), Error);
  EXPECT_THROW(static_cast<void>(decompose(graph, op::Unary{UnaryKind::kExp}, std::vector{x})),
               Error);
}

}  // namespace
}  // namespace metal_candle
