// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Layers include only what lies below them. The checker itself is tested on planted breaches.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/project/include_rules.h"

namespace metal_candle::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string include(const std::string& header) { return "#include \"" + header + "\"\n"; }

TEST(LayersTest, EveryIncludeOfTheTreeKeepsTheOrder) {
  int files = 0;
  EXPECT_THAT(check_tree(METAL_CANDLE_SOURCE_DIR, &files), IsEmpty());
  EXPECT_GT(files, 10) << "the sources are not where this test looks";
}

struct Edge {
  const char* from;
  const char* to;
};

class AllowedInclude : public ::testing::TestWithParam<Edge> {};
TEST_P(AllowedInclude, Passes) {
  EXPECT_THAT(check_includes(GetParam().from, include(GetParam().to)), IsEmpty());
}
INSTANTIATE_TEST_SUITE_P(
    Layers, AllowedInclude,
    ::testing::Values(Edge{"metal_candle/graph/a.cpp", "metal_candle/core/b.h"},
                      Edge{"metal_candle/graph/a.cpp", "metal_candle/graph/b.h"},
                      Edge{"metal_candle/autograd/a.h", "metal_candle/graph/b.h"},
                      Edge{"metal_candle/execute/a.cpp", "metal_candle/optimize/b.h"},
                      Edge{"metal_candle/execute/a.cpp", "metal_candle/backend/backend.h"},
                      Edge{"metal_candle/backend/cpu/a.cpp", "metal_candle/backend/cpu/b.h"},
                      Edge{"metal_candle/backend/cpu/a.cpp", "metal_candle/backend/backend.h"},
                      Edge{"metal_candle/io/a.cpp", "metal_candle/graph/b.h"},
                      Edge{"metal_candle/models/a.cpp", "metal_candle/io/b.h"},
                      Edge{"metal_candle/train/a.cpp", "metal_candle/models/b.h"},
                      Edge{"metal_candle/train/a.cpp", "metal_candle/lora/b.h"},
                      Edge{"metal_candle/generate/a.cpp", "metal_candle/lora/b.h"},
                      Edge{"metal_candle/metal_candle.h", "metal_candle/embed/b.h"},
                      Edge{"cli/a.cpp", "metal_candle/metal_candle.h"},
                      Edge{"cli/a.cpp", "bench/b.h"}));

class ForbiddenInclude : public ::testing::TestWithParam<Edge> {};
TEST_P(ForbiddenInclude, IsReported) {
  EXPECT_THAT(check_includes(GetParam().from, "\n" + include(GetParam().to)),
              ElementsAre(HasSubstr(std::string(GetParam().from) + ":2: " + GetParam().to)));
}
INSTANTIATE_TEST_SUITE_P(
    Layers, ForbiddenInclude,
    ::testing::Values(Edge{"metal_candle/core/a.h", "metal_candle/graph/b.h"},
                      Edge{"metal_candle/graph/a.cpp", "metal_candle/execute/b.h"},
                      Edge{"metal_candle/graph/a.cpp", "metal_candle/io/b.h"},
                      Edge{"metal_candle/autograd/a.cpp", "metal_candle/optimize/b.h"},
                      Edge{"metal_candle/optimize/a.cpp", "metal_candle/backend/backend.h"},
                      Edge{"metal_candle/backend/cpu/a.cpp", "metal_candle/execute/b.h"},
                      Edge{"metal_candle/backend/cpu/a.cpp", "metal_candle/optimize/b.h"},
                      Edge{"metal_candle/backend/cuda/a.cpp", "metal_candle/backend/cpu/b.h"},
                      Edge{"metal_candle/execute/a.cpp", "metal_candle/backend/cpu/b.h"},
                      Edge{"metal_candle/execute/a.cpp", "metal_candle/io/b.h"},
                      Edge{"metal_candle/lora/a.cpp", "metal_candle/train/b.h"},
                      Edge{"metal_candle/train/a.cpp", "metal_candle/generate/b.h"},
                      Edge{"metal_candle/nn/a.cpp", "metal_candle/metal_candle.h"},
                      Edge{"metal_candle/metal_candle.h", "metal_candle/backend/cpu/b.h"},
                      Edge{"metal_candle/graph/a.cpp", "metal_candle/misc/b.h"},
                      Edge{"metal_candle/misc/a.cpp", "metal_candle/core/b.h"},
                      Edge{"metal_candle/graph/a.cpp", "tensor.h"},
                      Edge{"metal_candle/train/a.cpp", "cli/b.h"},
                      Edge{"cli/a.cpp", "metal_candle/backend/cpu/b.h"}));

TEST(LayersTest, HeavyHeadersStayOutOfPublicHeaders) {
  for (const char* header : {"dnnl.hpp", "oneapi/dnnl/dnnl.hpp", "hwy/highway.h", "fmt/format.h"}) {
    for (const auto& line : {std::string("#include <") + header + ">\n", include(header)}) {
      EXPECT_THAT(check_includes("metal_candle/graph/a.h", line), ElementsAre(HasSubstr(header)));
      EXPECT_THAT(check_includes("metal_candle/graph/a.cpp", line), IsEmpty());
      EXPECT_THAT(check_includes("metal_candle/backend/cpu/a.h", line), IsEmpty());
    }
  }
}

TEST(LayersTest, WhatOnlyLooksLikeAnIncludeIsIgnored) {
  EXPECT_THAT(check_includes("metal_candle/core/a.h", "// #include \"metal_candle/nn/b.h\"\n"),
              IsEmpty());
  EXPECT_THAT(check_includes("metal_candle/core/a.h", "  #  include \"metal_candle/nn/b.h\""),
              ElementsAre(HasSubstr("core does not know nn")));
}

TEST(LayersTest, BreachesOfAWholeTreeAreFound) {
  const auto root = std::filesystem::path(::testing::TempDir()) / "layers_test_tree";
  std::filesystem::create_directories(root / "metal_candle/core");
  std::ofstream(root / "metal_candle/core/good.h") << "#include <vector>\n";
  std::ofstream(root / "metal_candle/core/bad.cpp") << include("metal_candle/execute/plan.h");
  const auto breaches = check_tree(root);
  std::filesystem::remove_all(root);
  EXPECT_THAT(breaches, ElementsAre("metal_candle/core/bad.cpp:1: metal_candle/execute/plan.h: "
                                    "core does not know execute"));
}

}  // namespace
}  // namespace metal_candle::testing
