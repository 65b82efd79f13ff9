// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Copies, joins and padding over random strides, and random bits against the published vectors.
#include <gtest/gtest.h>

#include "metal_candle/core/philox.h"
#include "tests/backend/kernel_runner.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing {
namespace {

using backend::cpu::make_concatenate;
using backend::cpu::make_copy;
using backend::cpu::make_random;

constexpr DType kDTypes[] = {DType::kU8, DType::kBF16, DType::kF32, DType::kI64};

// Element i holds i, as far as the dtype goes.
HostTensor counting(const Shape& shape, DType dtype, std::int64_t first = 0) {
  HostTensor host(shape, dtype);
  for (std::int64_t i = 0; i < host.size(); ++i) {
    if (host.is_real()) {
      host.r(i) = round_to(static_cast<double>((first + i) % 251), dtype);
    } else {
      host.n(i) = wrap_to(first + i, dtype);
    }
  }
  return host;
}

TEST(CopyTest, AnyStridesToContiguous) {
  const Shape shapes[] = {{},           {0},          {1},           {3, 0},
                          {70000},      {300, 200},   {33, 65},      {2, 3, 4, 5},
                          {64, 3, 100}, {5, 1000, 7}, {1, 40, 1, 50}};
  for (const Shape& shape : shapes) {
    for (const DType dtype : kDTypes) {
      const HostTensor x = counting(shape, dtype);
      for (std::uint32_t seed = 0; seed < 8; ++seed) {
        const HostTensor* inputs[] = {&x};
        const auto placement = seed == 0 ? Placement::kContiguous : Placement::kScattered;
        EXPECT_TRUE(all_close(
            run_kernel(make_copy, op::Identity{}, inputs, x.spec, placement, seed), x, {0, 0}))
            << to_string(shape) << " " << name(dtype) << " seed " << seed;
      }
    }
  }
}

TEST(CopyTest, ViewsAsOperations) {
  const HostTensor x = counting({6, 50, 40}, DType::kF32);
  const HostTensor* inputs[] = {&x};
  const std::pair<Operation, Shape> cases[] = {
      {op::Transpose{{2, 0, 1}}, {40, 6, 50}},
      {op::Transpose{{0, 2, 1}}, {6, 40, 50}},
      {op::Slice{{5, 1, 39}, {-2, 3, -1}}, {3, 16, 40}},
      {op::Reshape{}, {100, 120}},
      {op::Broadcast{}, {2, 6, 50, 40}},
  };
  for (const auto& [operation, shape] : cases) {
    const TensorSpec spec{shape, DType::kF32};
    for (const auto placement : {Placement::kContiguous, Placement::kScattered}) {
      EXPECT_TRUE(all_close(run_kernel(make_copy, operation, inputs, spec, placement),
                            interpret_operation(operation, inputs, spec)[0], {0, 0}))
          << to_string(operation);
    }
  }
}

TEST(ConcatenateTest, AlongEveryAxis) {
  for (const DType dtype : kDTypes) {
    for (int axis = 0; axis < 3; ++axis) {
      std::vector<HostTensor> parts;
      Shape whole{4, 30, 50};
      whole[axis] = 0;
      for (const std::int64_t length : {3, 0, 1, 200}) {
        Shape shape{4, 30, 50};
        shape[axis] = length;
        whole[axis] += length;
        parts.push_back(counting(shape, dtype, 17 * length));
      }
      std::vector<const HostTensor*> inputs;
      for (const HostTensor& part : parts) inputs.push_back(&part);
      const TensorSpec spec{whole, dtype};
      for (const auto placement : {Placement::kContiguous, Placement::kScattered}) {
        EXPECT_TRUE(
            all_close(run_kernel(make_concatenate, op::Concatenate{axis}, inputs, spec, placement),
                      interpret_operation(op::Concatenate{axis}, inputs, spec)[0], {0, 0}))
            << axis << " " << name(dtype);
      }
    }
  }
}

TEST(PadTest, BeforeAndAfter) {
  for (const DType dtype : kDTypes) {
    const std::tuple<Shape, Dims, Shape> cases[] = {{{3, 4}, {1, 2}, {6, 7}},
                                                    {{3, 4}, {0, 0}, {3, 4}},
                                                    {{5}, {3}, {8}},
                                                    {{0, 2}, {1, 0}, {2, 2}},
                                                    {{}, {}, {}},
                                                    {{2, 30, 70}, {0, 1, 5}, {3, 31, 90}}};
    for (const auto& [shape, low, padded] : cases) {
      const HostTensor x = counting(shape, dtype);
      const HostTensor* inputs[] = {&x};
      const Operation operation = op::Pad{low, Scalar::from_integer(9)};
      const TensorSpec spec{padded, dtype};
      for (const auto placement : {Placement::kContiguous, Placement::kScattered}) {
        EXPECT_TRUE(all_close(run_kernel(make_concatenate, operation, inputs, spec, placement),
                              interpret_operation(operation, inputs, spec)[0], {0, 0}))
            << to_string(operation) << " of " << to_string(shape);
      }
    }
  }
}

// Known answers: kat_vectors of the Random123 distribution, philox4x32 with 10 rounds.
TEST(PhiloxTest, KnownAnswers) {
  using Block = std::array<std::uint32_t, 4>;
  constexpr std::uint32_t kOnes = 0xffffffffu;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, ElementIsWordOfItsBlock) {
  for (const std::int64_t count : {0, 1, 3, 4, 37, 100003}) {
    const HostTensor key = HostTensor::of_integers({2}, {0xa4093822, 0x299f31d0}, DType::kU32);
    const HostTensor* inputs[] = {&key};
    const auto actual = run_kernel(make_random, op::RandomBits{}, inputs, {{count}, DType::kU32});
    for (std::int64_t i = 0; i < count; ++i) {
      const auto block = static_cast<std::uint32_t>(i / 4);
      const auto words = philox4x32({block, 0, 0, 0}, {0xa4093822u, 0x299f31d0u});
      ASSERT_EQ(actual.n(i), words[static_cast<std::size_t>(i % 4)]) << i;
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
