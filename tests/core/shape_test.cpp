// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/core/shape.h"

#include <gtest/gtest.h>

#include <string>

#include "metal_candle/core/device.h"
#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

// The message of the ShapeError that fn throws.
template <typename Fn>
std::string shape_error(Fn fn) {
  try {
    fn();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "no error";
}

TEST(DimsTest, HoldsUpToMaxRank) {
  Dims dims(kMaxRank, 2);
  EXPECT_EQ(dims.rank(), kMaxRank);
  EXPECT_THROW(dims.push_back(1), ShapeError);
  EXPECT_THROW(Dims(kMaxRank + 1, 0), ShapeError);
  EXPECT_THROW((Dims{1, 2, 3, 4, 5, 6, 7, 8, 9}), ShapeError);
}

TEST(DimsTest, InsertAndErase) {
  Dims dims{1, 2, 3};
  dims.insert(0, 9);
  dims.insert(4, 8);
  EXPECT_EQ(dims, (Dims{9, 1, 2, 3, 8}));
  dims.erase(2);
  EXPECT_EQ(dims, (Dims{9, 1, 3, 8}));
  EXPECT_NE(dims, (Dims{9, 1, 3}));
}

TEST(ShapeTest, CountsElements) {
  EXPECT_EQ(num_elements({}), 1);
  EXPECT_EQ(num_elements({2, 3, 4}), 24);
  EXPECT_EQ(num_elements({0, std::int64_t{1} << 62, 8}), 0);
  EXPECT_EQ(num_elements({std::int64_t{1} << 31, std::int64_t{1} << 31}), std::int64_t{1} << 62);
  const Shape huge{std::int64_t{1} << 32, std::int64_t{1} << 31};
  EXPECT_NE(shape_error([&] { (void)num_elements(huge); }).find("4294967296, 2147483648"),
            std::string::npos);
}

TEST(ShapeTest, Strides) {
  EXPECT_EQ(contiguous_strides({}), (Strides{}));
  EXPECT_EQ(contiguous_strides({2, 3, 4}), (Strides{12, 4, 1}));
  EXPECT_TRUE(is_contiguous({2, 3, 4}, {12, 4, 1}));
  EXPECT_TRUE(is_contiguous({2, 1, 4}, {4, 77, 1}));
  EXPECT_TRUE(is_contiguous({1, 4}, {0, 1}));
  EXPECT_TRUE(is_contiguous({3, 0}, {5, 9}));
  EXPECT_TRUE(is_contiguous({}, {}));
  EXPECT_FALSE(is_contiguous({2, 3}, {1, 2}));
  EXPECT_FALSE(is_contiguous({4}, {-1}));
  EXPECT_FALSE(is_contiguous({4}, {0}));
}

TEST(ShapeTest, Broadcasts) {
  EXPECT_EQ(broadcast_shapes("add", {}, {2, 3}), (Shape{2, 3}));
  EXPECT_EQ(broadcast_shapes("add", {4, 1, 3}, {2, 1}), (Shape{4, 2, 3}));
  EXPECT_EQ(broadcast_shapes("add", {3}, {5, 1}), (Shape{5, 3}));
  EXPECT_EQ(broadcast_shapes("add", {0}, {1}), (Shape{0}));
  EXPECT_EQ(broadcast_shapes("add", {1, 0}, {7, 1}), (Shape{7, 0}));
  EXPECT_EQ(shape_error([] {
              (void)broadcast_shapes("add", {2, 3}, {4});
            }),
            "add: shapes [2, 3] and [4] do not broadcast");
  EXPECT_THROW((void)broadcast_shapes("add", {0}, {2}), ShapeError);
}

TEST(ShapeTest, NormalizesAxes) {
  EXPECT_EQ(normalize_axis("sum", -1, 3), 2);
  EXPECT_EQ(normalize_axis("sum", 0, 1), 0);
  EXPECT_EQ(normalize_axis("sum", -3, 3), 0);
  EXPECT_EQ(shape_error([] { (void)normalize_axis("sum", 3, 3); }),
            "sum: axis 3 is out of range for 3 dimensions");
  EXPECT_THROW((void)normalize_axis("sum", -4, 3), ShapeError);
  EXPECT_THROW((void)normalize_axis("sum", 0, 0), ShapeError);
}

TEST(DeviceTest, NamesGoThereAndBack) {
  EXPECT_EQ(to_string(Device::cpu()), "cpu");
  for (const Device device :
       {Device::cpu(), Device{DeviceType::kCuda, 3}, Device{DeviceType::kMetal, 0}}) {
    EXPECT_EQ(parse_device(to_string(device)), device);
  }
  EXPECT_EQ(parse_device("cuda"), (Device{DeviceType::kCuda, 0}));
  for (const char* text : {"", "tpu", "cuda:", "cuda:x", "cuda:1x", "cuda:256", "cpu0", ":0"}) {
    EXPECT_THROW((void)parse_device(text), DeviceError) << text;
  }
}

}  // namespace
}  // namespace metal_candle
