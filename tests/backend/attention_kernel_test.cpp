// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attention and its gradient against the reference interpreter, which goes one query at a time in
// double.
#include <gtest/gtest.h>

#include <limits>

#include "interpreted_kernel.h"
#include "kernel_harness.h"

namespace metal_candle::backend::cpu::testing {
namespace {

enum class Mask { kNone, kBool, kFloat, kRow };

struct Case {
  std::int64_t batch = 1, heads = 1, key_heads = 1, queries = 1, keys = 1, width = 8,
               value_width = 8;
  bool causal = false;
  int window = 0;
  Mask mask = Mask::kNone;
  std::vector<std::int64_t> key_length;  // None, one, or one a batch.
};

// Heads between positions, as a projection leaves them.
TensorLayout heads_last(const Shape& s, DType dtype) {
  return {s, {s[1] * s[2] * s[3], s[3], s[1] * s[3], 1}, dtype};
}

struct Problem {
  op::Attention operation;
  std::vector<Operand> inputs;  // q, k, v.
  std::vector<Operand> optional;
};

Problem make_problem(const Case& c, DType dtype) {
  Problem p{{1.0f / std::sqrt(static_cast<float>(c.width)), c.causal, c.window,
             c.mask != Mask::kNone, !c.key_length.empty()},
            {},
            {}};
  const auto add = [&](std::int64_t heads, std::int64_t length, std::int64_t width,
                       std::uint32_t seed) {
    p.inputs.push_back(Operand::random(heads_last({c.batch, heads, length, width}, dtype), seed));
  };
  add(c.heads, c.queries, c.width, 1);
  add(c.key_heads, c.keys, c.width, 2);
  add(c.key_heads, c.keys, c.value_width, 3);
  if (c.mask == Mask::kBool) {
    Operand mask(Shape{c.batch, 1, c.queries, c.keys}, DType::kBool);
    for (std::int64_t i = 0; i < mask.size(); ++i) mask.set(i, (i * 7 + i / 5) % 3 != 0);
    p.optional.push_back(mask);
  } else if (c.mask == Mask::kFloat) {
    p.optional.push_back(Operand::random(
        TensorLayout{{c.heads, c.queries, c.keys}, {1, c.heads, c.heads * c.queries}, dtype}, 4));
  } else if (c.mask == Mask::kRow) {
    p.optional.push_back(Operand::random(Shape{c.keys}, DType::kF32, 5));
  }
  if (!c.key_length.empty()) {
    const bool one = c.key_length.size() == 1;
    Operand length(one ? Shape{} : Shape{c.batch}, DType::kI32);
    for (std::size_t i = 0; i < c.key_length.size(); ++i) {
      length.set(static_cast<std::int64_t>(i), static_cast<double>(c.key_length[i]));
    }
    p.optional.push_back(length);
  }
  return p;
}

std::string describe(const Case& c, DType dtype) {
  return std::string(name(dtype)) + " b " + std::to_string(c.batch) + " h " +
         std::to_string(c.heads) + '/' + std::to_string(c.key_heads) + " lq " +
         std::to_string(c.queries) + " lk " + std::to_string(c.keys) + " d " +
         std::to_string(c.width) + '/' + std::to_string(c.value_width) + " causal " +
         std::to_string(c.causal) + " window " + std::to_string(c.window) + " mask " +
         std::to_string(static_cast<int>(c.mask)) + " lengths " +
         std::to_string(c.key_length.size());
}

void check_forward(const Case& c, DType dtype) {
  const Problem p = make_problem(c, dtype);
  std::vector<Operand> inputs = p.inputs;
  inputs.insert(inputs.end(), p.optional.begin(), p.optional.end());
  const TensorSpec out{{c.batch, c.heads, c.queries, c.value_width}, dtype};
  const TensorSpec lse{{c.batch, c.heads, c.queries}, DType::kF32};
  const std::vector<HostTensor> expected = interpret(p.operation, inputs, out);
  std::vector<double> first;
  with_thread_counts([&](int) {
    const auto actual = run_kernel(make_attention, p.operation, inputs, {out, lse});
    EXPECT_TRUE(near(actual[0], expected[0].real, 1e-5)) << describe(c, dtype);
    EXPECT_TRUE(near(actual[1], expected[1].real, 1e-5)) << "logsumexp " << describe(c, dtype);
    if (first.empty()) first = actual[0].values();
    EXPECT_EQ(actual[0].values(), first) << "depends on the number of threads";
  });
  RunOptions options;
  options.needed = {true, false};
  const auto only = run_kernel(make_attention, p.operation, inputs, {out, lse}, options);
  EXPECT_EQ(only[0].values(), first);
}

void check_backward(const Case& c, DType dtype) {
  const Problem p = make_problem(c, dtype);
  std::vector<Operand> inputs = p.inputs;
  inputs.insert(inputs.end(), p.optional.begin(), p.optional.end());
  const TensorSpec out{{c.batch, c.heads, c.queries, c.value_width}, dtype};
  const std::vector<HostTensor> forward = interpret(p.operation, inputs, out);
  Operand output(out.shape, dtype), logsumexp(Shape{c.batch, c.heads, c.queries}, DType::kF32);
  for (std::int64_t i = 0; i < output.size(); ++i) output.set(i, forward[0].r(i));
  for (std::int64_t i = 0; i < logsumexp.size(); ++i) logsumexp.set(i, forward[1].r(i));
  std::vector<Operand> backward = p.inputs;
  backward.push_back(output);
  backward.push_back(logsumexp);
  backward.push_back(Operand::random(heads_last(out.shape, dtype), 9));
  backward.insert(backward.end(), p.optional.begin(), p.optional.end());
  std::vector<TensorSpec> specs;
  for (const Operand& input : p.inputs) specs.push_back({input.shape(), dtype});
  const Operation operation = op::AttentionBackward{p.operation};
  const std::vector<HostTensor> expected = interpret(operation, backward, specs[0]);
  std::vector<std::vector<double>> first(3);
  with_thread_counts([&](int) {
    const auto actual = run_kernel(make_attention, operation, backward, specs);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(near(actual[i], expected[i].real, 4e-5))
          << "gradient " << i << ' ' << describe(c, dtype);
      if (first[i].empty()) first[i] = actual[i].values();
      EXPECT_EQ(actual[i].values(), first[i]) << "depends on the number of threads";
    }
  });
  for (std::size_t i = 0; i < 3; ++i) {
    RunOptions options;
    options.needed = {i == 0, i == 1, i == 2};
    const auto only = run_kernel(make_attention, operation, backward, specs, options);
    EXPECT_EQ(only[i].values(), first[i]) << "gradient " << i << " alone";
  }
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const Mask mask : {Mask::kNone, Mask::kBool, Mask::kFloat, Mask::kRow}) {
    for (const bool causal : {false, true}) {
      result.push_back({2, 4, 2, 9, 13, 16, 24, causal, 0, mask, {}});
      result.push_back({2, 2, 2, 5, 40, 7, 3, causal, causal ? 6 : 0, mask, {}});
      result.push_back({2, 4, 1, 3, 30, 64, 64, causal, 0, mask, {17, 30}});
      result.push_back({1, 3, 3, 6, 20, 32, 8, causal, causal ? 2 : 0, mask, {11}});
    }
  }
  result.push_back({1, 2, 1, 150, 300, 64, 64, true, 0, Mask::kNone, {}});
  result.push_back({1, 1, 1, 130, 260, 20, 16, true, 50, Mask::kNone, {200}});
  result.push_back({1, 8, 2, 1, 1100, 64, 64, true, 0, Mask::kNone, {1050}});  // Split over keys.
  result.push_back({2, 2, 1, 1, 2000, 8, 8, true, 700, Mask::kRow, {1300, 40}});
  result.push_back({2, 2, 2, 6, 4, 8, 8, true, 0, Mask::kNone, {}});  // Rows that see nothing.
  result.push_back({2, 1, 1, 2, 5, 8, 8, false, 0, Mask::kNone, {0, 3}});
  return result;
}

TEST(AttentionKernel, AgainstTheReference) {
  for (const DType dtype : kFloatingDTypes) {
    for (const Case& c : cases()) check_forward(c, dtype);
  }
}

TEST(AttentionKernel, Gradients) {
  for (const DType dtype : kFloatingDTypes) {
    for (const Case& c : cases()) check_backward(c, dtype);
  }
}

TEST(AttentionKernel, ZeroSizes) {
  check_forward({1, 2, 1, 0, 5, 8, 8, false, 0, Mask::kNone, {}}, DType::kF32);
  check_forward({0, 2, 1, 3, 5, 8, 8, false, 0, Mask::kNone, {}}, DType::kF32);
  check_forward({1, 2, 1, 3, 0, 8, 8, true, 0, Mask::kNone, {}}, DType::kF32);
}

// A cache is longer than what has been written to it.
TEST(AttentionKernel, DoesNotReadBeyondTheKeyLength) {
  const Problem p =
      make_problem({1, 2, 1, 3, 200, 16, 16, true, 0, Mask::kNone, {70}}, DType::kF32);
  for (std::int64_t i = 70 * 16; i < 200 * 16; ++i) {
    p.inputs[1].set(i, std::numeric_limits<double>::quiet_NaN());
    p.inputs[2].set(i, std::numeric_limits<double>::quiet_NaN());
  }
  std::vector<Operand> inputs = p.inputs;
  inputs.push_back(p.optional[0]);
  const TensorSpec out{{1, 2, 3, 16}, DType::kF32}, lse{{1, 2, 3}, DType::kF32};
  const auto forward = run_kernel(make_attention, p.operation, inputs, {out, lse});
  for (const double v : forward[0].values()) EXPECT_TRUE(std::isfinite(v));
  std::vector<Operand> backward = p.inputs;
  backward.insert(backward.end(), {forward[0], forward[1],
                                   Operand::random(out.shape, DType::kF32, 3), p.optional[0]});
  const auto gradients = run_kernel(make_attention, op::AttentionBackward{p.operation}, backward,
                                    {{{1, 2, 3, 16}, DType::kF32},
                                     {{1, 1, 200, 16}, DType::kF32},
                                     {{1, 1, 200, 16}, DType::kF32}});
  for (const Operand& gradient : gradients) {
    for (const double v : gradient.values()) EXPECT_TRUE(std::isfinite(v));
  }
  for (std::int64_t i = 70 * 16; i < 200 * 16; ++i) EXPECT_EQ(gradients[1].get(i), 0);
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
