// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tensors in memory that is somebody else's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/host_only.h"

namespace metal_candle {
namespace {

using ::testing::Each;

using Floats = std::vector<float>;

std::span<const std::byte> bytes_of(const Floats& values) {
  return std::as_bytes(std::span(values));
}

TEST(FromBlob, ReadsTheMemoryAndKeepsItsOwner) {
  METAL_CANDLE_HOST_ONLY("other devices copy");
  auto owner = std::make_shared<Floats>(Floats{1, 2, 3, 4, 5, 6});
  const std::weak_ptr<Floats> alive = owner;
  Tensor x = from_blob(bytes_of(*owner), {{2, 3}, DType::kF32}, owner);
  EXPECT_EQ(x.node()->value().storage->contents(), owner->data());
  owner.reset();
  Tensor row = x[1].eval();
  x = Tensor();
  EXPECT_EQ(row.to_vector<float>(), (Floats{4, 5, 6}));
  EXPECT_FALSE(alive.expired()) << "the view is in that memory";
  row = Tensor();
  EXPECT_TRUE(alive.expired());
}

TEST(FromBlob, WorkInFlightKeepsTheOwner) {
  for (int queue = 0; queue < 2; ++queue) {
    auto owner = std::make_shared<Floats>(1 << 16, 1.0f);
    const std::weak_ptr<Floats> alive = owner;
    Tensor y;
    {
      const Tensor x = from_blob(bytes_of(*owner), {{1 << 16}, DType::kF32}, owner);
      owner.reset();
      y = x;
      for (int i = 0; i < 20; ++i) y = cumsum(y * 0.5, 0) * 1e-4;
      (void)eval_async({y}, queue);
    }
    EXPECT_GT(y.to_vector<float>().back(), 0.0f);
    synchronize();
    EXPECT_TRUE(alive.expired());
  }
}

TEST(FromBlob, IsNeverOverwritten) {
  const Floats values(1 << 14, 1.0f);
  for (const ExecutionMode mode :
       {ExecutionMode::kEager, ExecutionMode::kSync, ExecutionMode::kAsync}) {
    const ScopedExecutionMode scope(mode);
    reset_counters();
    Tensor x = from_blob(bytes_of(values), {{1 << 14}, DType::kF32}, nullptr);
    x = x + 1.0;
    EXPECT_THAT(x.to_vector<float>(), Each(2.0f));
    x = from_blob(bytes_of(values), {{1 << 14}, DType::kF32}, nullptr);
    x = slice_update(x, zeros({100}), {0});
    (void)x.eval_async();
    EXPECT_EQ(sum(x).item<float>(), static_cast<float>((1 << 14) - 100));
    EXPECT_EQ(counters().donations, 0u);
    EXPECT_THAT(values, Each(1.0f));
  }
}

TEST(FromBlob, MemoryMustFit) {
  const Floats values(6);
  EXPECT_THROW((void)from_blob(bytes_of(values), {{5}, DType::kF32}, nullptr), ShapeError);
  EXPECT_THROW((void)from_blob(bytes_of(values), {{7}, DType::kF32}, nullptr), ShapeError);
  EXPECT_THROW((void)from_blob(bytes_of(values).subspan(2, 16), {{4}, DType::kF32}, nullptr),
               Error);
  EXPECT_EQ(from_blob({}, {{0, 3}, DType::kF32}, nullptr).to_vector<float>(), Floats{});
}

}  // namespace
}  // namespace metal_candle
