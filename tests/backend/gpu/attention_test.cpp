// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attention and its gradient on the GPU in software against the reference interpreter.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
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

struct Problem {
  op::Attention operation;
  std::vector<HostTensor> operands;  // q, k, v.
  std::vector<HostTensor> optional;
};

Problem make_problem(const Case& c, DType dtype) {
  Problem p{{1.0f / std::sqrt(static_cast<float>(c.width)), c.causal, c.window,
             c.mask != Mask::kNone, !c.key_length.empty()},
            {},
            {}};
  p.operands.push_back(random_operand({c.batch, c.heads, c.queries, c.width}, dtype, 1));
  p.operands.push_back(random_operand({c.batch, c.key_heads, c.keys, c.width}, dtype, 2));
  p.operands.push_back(random_operand({c.batch, c.key_heads, c.keys, c.value_width}, dtype, 3));
  if (c.mask == Mask::kBool) {
    HostTensor mask(Shape{c.batch, 1, c.queries, c.keys}, DType::kBool);
    for (std::int64_t i = 0; i < mask.size(); ++i) mask.n(i) = (i * 7 + i / 5) % 3 != 0;
    p.optional.push_back(mask);
  } else if (c.mask == Mask::kFloat) {
    p.optional.push_back(random_operand({c.heads, c.queries, c.keys}, dtype, 4));
  } else if (c.mask == Mask::kRow) {
    HostTensor mask = random_operand({c.keys}, DType::kF32, 5);
    if (mask.size() > 0) mask.r(0) = -std::numeric_limits<double>::infinity();
    p.optional.push_back(mask);
  }
  if (!c.key_length.empty()) {
    HostTensor length(c.key_length.size() == 1 ? Shape{} : Shape{c.batch}, DType::kI32);
    for (std::int64_t i = 0; i < length.size(); ++i) {
      length.n(i) = c.key_length[static_cast<std::size_t>(i)];
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

std::vector<const HostTensor*> pointers(std::initializer_list<const std::vector<HostTensor>*> all) {
  std::vector<const HostTensor*> result;
  for (const auto* tensors : all) {
    for (const HostTensor& tensor : *tensors) result.push_back(&tensor);
  }
  return result;
}

Tolerance tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {2e-5, 2e-5};
    case DType::kF16:
      return {4e-3, 4e-3};
    default:
      return {2e-2, 2e-2};
  }
}

void expect_same(const HostTensor& actual, const HostTensor& expected, const std::string& what) {
  EXPECT_TRUE(all_close(actual, expected, {})) << what;
}

void check_forward(const Case& c, DType dtype, Placement placement = Placement::kContiguous) {
  const Problem p = make_problem(c, dtype);
  const std::vector<const HostTensor*> inputs = pointers({&p.operands, &p.optional});
  const std::vector<TensorSpec> specs{{{c.batch, c.heads, c.queries, c.value_width}, dtype},
                                      {{c.batch, c.heads, c.queries}, DType::kF32}};
  const std::vector<HostTensor> expected = interpret_operation(p.operation, inputs, specs[0]);
  const std::vector<HostTensor> actual = run_gpu_kernel(p.operation, inputs, specs, {}, placement);
  EXPECT_TRUE(all_close(actual[0], expected[0], tolerance_of(dtype))) << describe(c, dtype);
  EXPECT_TRUE(all_close(actual[1], expected[1], {1e-4, 1e-4}))
      << "logsumexp " << describe(c, dtype);
  const auto only = run_gpu_kernel(p.operation, inputs, specs, {1, 0}, placement);
  expect_same(only[0], actual[0], describe(c, dtype) + " without logsumexp");
}

void check_backward(const Case& c, DType dtype, Placement placement = Placement::kContiguous,
                    bool subsets = false) {
  const Problem p = make_problem(c, dtype);
  const TensorSpec out{{c.batch, c.heads, c.queries, c.value_width}, dtype};
  std::vector<HostTensor> rest =
      interpret_operation(p.operation, pointers({&p.operands, &p.optional}), out);
  for (HostTensor& tensor : rest) {
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      tensor.r(i) = round_to(tensor.r(i), tensor.dtype());
    }
  }
  rest.push_back(random_operand(out.shape, dtype, 9));
  const std::vector<const HostTensor*> inputs = pointers({&p.operands, &rest, &p.optional});
  std::vector<TensorSpec> specs;
  for (const HostTensor& operand : p.operands) specs.push_back(operand.spec);
  const Operation operation = op::AttentionBackward{p.operation};
  const std::vector<HostTensor> expected = interpret_operation(operation, inputs, specs[0]);
  const std::vector<HostTensor> actual = run_gpu_kernel(operation, inputs, specs, {}, placement);
  const Tolerance one = tolerance_of(dtype);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(all_close(actual[i], expected[i], {2 * one.relative, 2 * one.absolute}))
        << "gradient " << i << ' ' << describe(c, dtype);
  }
  for (std::size_t i = 0; subsets && i < 3; ++i) {
    const auto only = run_gpu_kernel(operation, inputs, specs, {i == 0, i == 1, i == 2}, placement);
    expect_same(only[i], actual[i], "gradient " + std::to_string(i) + " alone");
  }
}

// Few rows and many, one tile and several, whole tiles and parts of them. f16 and bf16 differ in
// conversions only, so that fewer do for f16.
std::vector<Case> cases(DType dtype) {
  std::vector<Case> result;
  for (const Mask mask : {Mask::kNone, Mask::kBool, Mask::kFloat, Mask::kRow}) {
    for (const bool causal : {false, true}) {
      if (dtype == DType::kF16 && !causal) continue;
      result.push_back({2, 4, 2, 9, 13, 16, 24, causal, 0, mask, {}});
      result.push_back({2, 2, 2, 5, 40, 7, 3, causal, causal ? 6 : 0, mask, {}});
      result.push_back({2, 2, 1, 3, 70, 64, 64, causal, 0, mask, {17, 70}});
      result.push_back({1, 2, 1, 20, 90, 32, 8, causal, causal ? 12 : 0, mask, {77}});
    }
  }
  result.push_back({1, 2, 2, 70, 140, 64, 64, true, 0, Mask::kNone, {}});
  result.push_back({1, 1, 1, 33, 130, 20, 16, true, 50, Mask::kNone, {100}});
  result.push_back({1, 2, 1, 17, 40, 72, 128, true, 0, Mask::kBool, {}});
  result.push_back({1, 1, 1, 18, 40, 160, 200, true, 0, Mask::kNone, {}});
  result.push_back({1, 1, 1, 3, 20, 300, 40, true, 0, Mask::kNone, {}});
  result.push_back({1, 2, 2, 6, 4, 8, 8, true, 0, Mask::kNone, {}});  // Rows that see nothing.
  result.push_back({2, 1, 1, 20, 12, 8, 8, true, 0, Mask::kNone, {}});
  result.push_back({2, 1, 1, 2, 5, 8, 8, false, 0, Mask::kNone, {0, 3}});
  return result;
}

// Split over keys.
std::vector<Case> decoding_cases() {
  return {{1, 14, 2, 1, 300, 64, 64, true, 0, Mask::kNone, {259}},
          {1, 14, 2, 1, 300, 64, 64, true, 0, Mask::kNone, {1}},
          {1, 4, 1, 1, 400, 128, 128, true, 150, Mask::kNone, {333}},
          {2, 2, 1, 1, 600, 8, 8, true, 200, Mask::kRow, {550, 40}},
          {2, 8, 2, 4, 300, 96, 96, true, 0, Mask::kNone, {298, 2}}};
}

class GpuAttentionTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuAttentionTest, AgreesWithTheReference) {
  for (const Case& c : cases(GetParam())) check_forward(c, GetParam());
}

// Where there is work enough, groups have more rows.
TEST_P(GpuAttentionTest, LargerGroupsAgreeToo) {
  if (GetParam() == DType::kF32) return;
  auto& limits = static_cast<gpu_sim::SimDevice&>(gpu_sim::sim_backend().gpu()).mutable_limits();
  const backend::gpu::DeviceLimits saved = std::exchange(limits, {.multiprocessors = 1});
  limits.max_group_bytes = saved.max_group_bytes;
  check_forward({1, 2, 1, 70, 140, 64, 64, true, 0, Mask::kNone, {}}, GetParam());
  check_forward({1, 1, 1, 130, 100, 32, 48, true, 60, Mask::kBool, {}}, GetParam());
  check_forward({1, 1, 1, 128, 128, 64, 64, true, 0, Mask::kNone, {}}, GetParam());
  check_forward({1, 1, 1, 40, 70, 128, 96, true, 0, Mask::kNone, {66}}, GetParam());
  limits = saved;
}

// As Apple GPUs have them.
TEST_P(GpuAttentionTest, GroupsOf32KiBAgreeToo) {
  auto& limits = static_cast<gpu_sim::SimDevice&>(gpu_sim::sim_backend().gpu()).mutable_limits();
  const backend::gpu::DeviceLimits saved = limits;
  limits.max_group_bytes = backend::gpu::kLeastGroupBytes;
  for (const Mask mask : {Mask::kNone, Mask::kBool}) {
    for (const std::int64_t width : {40, 64, 100, 200}) {
      const Case one{1, 2, 1, 70, 90, width, width, true, 0, mask, {}};
      check_forward(one, GetParam());
      check_backward(one, GetParam());
    }
  }
  // Several heads a key head, which are divided among groups; windows; parts of what is asked for.
  if (GetParam() != DType::kF32) {
    check_backward({1, 4, 1, 40, 50, 128, 96, true, 20, Mask::kNone, {45}}, GetParam(),
                   Placement::kContiguous, true);
    check_backward({2, 2, 2, 33, 20, 96, 128, false, 0, Mask::kFloat, {20, 11}}, GetParam(),
                   Placement::kScattered);
  }
  limits = saved;
}

// As Hopper has them.
TEST_P(GpuAttentionTest, WideProductsAgreeToo) {
  if (GetParam() == DType::kF32) return;
  auto& limits = static_cast<gpu_sim::SimDevice&>(gpu_sim::sim_backend().gpu()).mutable_limits();
  const backend::gpu::DeviceLimits saved = limits;
  limits.wide_products = true;
  const auto check = [&](const Case& c, Placement placement = Placement::kContiguous) {
    check_forward(c, GetParam(), placement);
    check_backward(c, GetParam(), placement, placement == Placement::kContiguous);
  };
  for (const Case& c : cases(GetParam())) {
    if (c.mask == Mask::kNone) check(c);
  }
  check({1, 2, 1, 130, 130, 64, 64, true, 0, Mask::kNone, {}});
  check({1, 3, 1, 100, 200, 64, 48, true, 90, Mask::kNone, {170}});
  check({1, 2, 2, 64, 128, 64, 64, false, 0, Mask::kNone, {}});
  check({1, 2, 1, 70, 130, 128, 128, true, 0, Mask::kNone, {}});
  check({1, 3, 1, 100, 90, 80, 104, true, 40, Mask::kNone, {77}});
  check({2, 2, 1, 20, 30, 13, 11, true, 0, Mask::kNone, {30, 22}}, Placement::kScattered);
  check({2, 2, 1, 70, 30, 64, 64, true, 0, Mask::kNone, {}}, Placement::kScatteredRows);
  limits.multiprocessors = 1;  // Heads are not divided.
  check_backward({1, 6, 1, 70, 700, 64, 64, true, 0, Mask::kNone, {}}, GetParam());
  limits = saved;
}

TEST_P(GpuAttentionTest, Decodes) {
  for (const Case& c : decoding_cases()) check_forward(c, GetParam());
}

TEST_P(GpuAttentionTest, TakesRowsThatLieAnywhere) {
  for (const std::int64_t queries : {3, 20}) {
    check_forward({2, 4, 2, queries, 30, 24, 16, true, 0, Mask::kFloat, {30, 22}}, GetParam(),
                  Placement::kScattered);
    check_forward({2, 2, 1, queries, 30, 13, 11, true, 0, Mask::kBool, {}}, GetParam(),
                  Placement::kScattered);
  }
}

TEST_P(GpuAttentionTest, ZeroSizes) {
  check_forward({1, 2, 1, 0, 5, 8, 8, false, 0, Mask::kNone, {}}, GetParam());
  check_forward({0, 2, 1, 3, 5, 8, 8, false, 0, Mask::kNone, {}}, GetParam());
  check_forward({1, 2, 1, 3, 0, 8, 8, true, 0, Mask::kNone, {}}, GetParam());
  check_forward({1, 2, 1, 20, 0, 8, 8, true, 0, Mask::kNone, {}}, GetParam());
  check_backward({1, 2, 1, 0, 5, 8, 8, false, 0, Mask::kNone, {}}, GetParam());
  check_backward({0, 2, 1, 3, 5, 8, 8, false, 0, Mask::kNone, {}}, GetParam());
  check_backward({1, 2, 1, 3, 0, 8, 8, true, 0, Mask::kNone, {}}, GetParam());
}

TEST_P(GpuAttentionTest, Gradients) {
  for (const Case& c : cases(GetParam())) check_backward(c, GetParam());
}

TEST_P(GpuAttentionTest, GradientsOfRowsThatLieAnywhere) {
  check_backward({2, 4, 2, 20, 30, 24, 16, true, 0, Mask::kFloat, {30, 22}}, GetParam(),
                 Placement::kScattered);
  check_backward({2, 2, 1, 20, 30, 13, 11, true, 0, Mask::kBool, {}}, GetParam(),
                 Placement::kScattered);
}

TEST_P(GpuAttentionTest, EachGradientAlone) {
  for (const std::int64_t width : {24, 160}) {
    check_backward({1, 2, 1, 20, 70, width, 16, true, 0, Mask::kNone, {50}}, GetParam(),
                   Placement::kContiguous, true);
  }
}

// What a step of decoding takes: no key, few, as many as one kernel holds, and one more.
TEST_P(GpuAttentionTest, OneQuery) {
  for (const std::int64_t keys : {1, 31, 130, 1024, 1025}) {
    for (const std::int64_t width : {64, 128, 20}) {
      if (keys > 1000 && width != 64) continue;
      check_forward({1, 4, 2, 1, keys, width, width, true, 0, Mask::kNone, {}}, GetParam());
      check_forward({2, 3, 1, 1, keys, width, 16, true, 9, Mask::kNone, {keys, keys / 2}},
                    GetParam(), Placement::kScatteredRows);
      check_forward({1, 2, 2, 1, keys, width, width, false, 0, Mask::kNone, {keys - 1}},
                    GetParam());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuAttentionTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& param_info) {
                           return std::string(name(param_info.param));
                         });

// A cache is longer than what has been written to it.
TEST(GpuAttention, DoesNotReadBeyondTheKeyLength) {
  for (const std::int64_t queries : {1, 20}) {
    const Case c{1, 2, 1, queries, 200, 16, 16, true, 0, Mask::kNone, {70}};
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Problem p = make_problem(c, dtype);
      for (std::int64_t i = 70 * 16; i < 200 * 16; ++i) {
        p.operands[1].r(i) = std::numeric_limits<double>::quiet_NaN();
        p.operands[2].r(i) = std::numeric_limits<double>::quiet_NaN();
      }
      const std::vector<TensorSpec> specs{{{1, 2, queries, 16}, dtype},
                                          {{1, 2, queries}, DType::kF32}};
      const auto forward = run_gpu_kernel(p.operation, pointers({&p.operands, &p.optional}), specs);
      for (std::int64_t i = 0; i < forward[0].size(); ++i) {
        EXPECT_TRUE(std::isfinite(forward[0].r(i)));
      }
      const std::vector<HostTensor> rest{forward[0], forward[1],
                                         random_operand(specs[0].shape, dtype, 3)};
      const TensorSpec keys{{1, 1, 200, 16}, dtype};
      const auto gradients = run_gpu_kernel(op::AttentionBackward{p.operation},
                                            pointers({&p.operands, &rest, &p.optional}),
                                            std::vector<TensorSpec>{specs[0], keys, keys});
      for (const HostTensor& gradient : gradients) {
        for (std::int64_t i = 0; i < gradient.size(); ++i) {
          EXPECT_TRUE(std::isfinite(gradient.r(i)));
        }
      }
      for (std::int64_t i = 70 * 16; i < 200 * 16; ++i) {
        EXPECT_EQ(gradients[1].r(i), 0);
        EXPECT_EQ(gradients[2].r(i), 0);
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
