// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Files of tuned parameters: what is read, kept and refused.
#include "metal_candle/backend/tuning_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "metal_candle/core/error.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::backend {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

const ShapeClass kShape = ShapeClass::of(DType::kBF16, {128, 4096, 1000}, 1);

Tuning some_tuning(std::int64_t value) {
  Tuning tuning;
  tuning.set(Tunable::kProductColumns, kShape, value);
  tuning.set(Tunable::kGpuRowThreads, ShapeClass::of(DType::kF32, {1}), 256);
  return tuning;
}

TEST(Tuning, ClassesHaveSizesBetweenPowersOfTwo) {
  const auto of = [](std::int64_t m) { return ShapeClass::of(DType::kF32, {m, 5}); };
  EXPECT_EQ(of(128), of(255));
  EXPECT_NE(of(127), of(128));
  EXPECT_NE(of(255), of(256));
  EXPECT_EQ(of(0).sizes[0], 0);
  EXPECT_EQ(of(1).sizes[0], 1);
  EXPECT_NE(ShapeClass::of(DType::kF32, {4}), ShapeClass::of(DType::kBF16, {4}));
  EXPECT_NE(ShapeClass::of(DType::kF32, {4}, 0), ShapeClass::of(DType::kF32, {4}, 1));
}

TEST(Tuning, AnswersWhatWasSetElseTheFallback) {
  const Tuning none;
  EXPECT_EQ(none.get(Tunable::kProductColumns, kShape, 7), 7);
  EXPECT_EQ(none.id(), 0u);
  const Tuning tuning = some_tuning(512);
  EXPECT_EQ(tuning.get(Tunable::kProductColumns, kShape, 7), 512);
  EXPECT_EQ(tuning.get(Tunable::kProductRows, kShape, 7), 7);
  EXPECT_NE(tuning.id(), 0u);
  EXPECT_NE(tuning.id(), some_tuning(1).id());
  for (const TunableInfo& info : tunables()) {
    EXPECT_EQ(find_tunable(info.name), info.id);
    EXPECT_EQ(&info_of(info.id), &info);
  }
  EXPECT_EQ(find_tunable("nonsense"), std::nullopt);
}

TEST(TuningFile, KeepsWhatItWasGivenAndOtherDevices) {
  std::string text = with_tuning("", "f", "one", some_tuning(512));
  text = with_tuning(text, "f", "two", some_tuning(128));
  text = with_tuning(text, "f", "one", some_tuning(256));
  for (const auto& [device, value] :
       {std::pair{"one", 256}, std::pair{"two", 128}, std::pair{"three", 7}}) {
    Tuning read;
    read_tuning(text, "f", device, read);
    EXPECT_EQ(read.get(Tunable::kProductColumns, kShape, 7), value);
  }
  Tuning over = some_tuning(64);
  over.set(Tunable::kProductRows, kShape, 48);
  read_tuning(text, "f", "one", over);
  EXPECT_EQ(over.get(Tunable::kProductColumns, kShape, 7), 256);
  EXPECT_EQ(over.get(Tunable::kProductRows, kShape, 7), 48);
}

TEST(TuningFile, ParametersOfAnotherVersionAreLeftOut) {
  auto json = nlohmann::json::parse(with_tuning("", "f", "one", some_tuning(512)));
  json["devices"][0]["values"][0]["parameter"] = "something new";
  Tuning read;
  read_tuning(json.dump(), "f", "one", read);
  EXPECT_EQ(read.values().size(), 1u);
}

// What a damaged file says.
std::vector<std::string> damaged() {
  const auto good = nlohmann::json::parse(with_tuning("", "f", "one", some_tuning(512)));
  std::vector<std::string> texts{"", "{", "[]", "{}", good.dump().substr(0, 100)};
  const auto with = [&](const auto& change) {
    auto copy = good;
    change(copy);
    texts.push_back(copy.dump());
  };
  with([](auto& j) { j["version"] = 2; });
  with([](auto& j) { j["version"] = "1"; });
  with([](auto& j) { j["format"] = "something else"; });
  with([](auto& j) { j["devices"][0].erase("device"); });
  with([](auto& j) { j["devices"][0]["values"] = 5; });
  with([](auto& j) { j["devices"][0]["values"][0]["dtype"] = "f99"; });
  with([](auto& j) { j["devices"][0]["values"][0]["sizes"] = {1, 2}; });
  with([](auto& j) { j["devices"][0]["values"][0]["value"] = -1; });
  with([](auto& j) { j["devices"][0]["values"][0]["value"] = "many"; });
  with([](auto& j) { j["devices"][0]["values"][0].erase("form"); });
  return texts;
}

TEST(TuningFile, DamageIsAnErrorThatNamesTheFile) {
  for (const std::string& text : damaged()) {
    Tuning read;
    EXPECT_THAT(message_of<FormatError>([&] { read_tuning(text, "tuning.json", "one", read); }),
                HasSubstr("tuning.json"))
        << text;
  }
  EXPECT_THROW((void)with_tuning("{", "f", "one", {}), FormatError);
}

class LoadedTuning : public ::testing::Test {
 protected:
  LoadedTuning() { setenv("METAL_CANDLE_CACHE", folder_.path().c_str(), 1); }
  ~LoadedTuning() override {
    unsetenv("METAL_CANDLE_CACHE");
    unsetenv("METAL_CANDLE_TUNING");
  }
  [[nodiscard]] static std::int64_t loaded() {
    return load_tuning("one").get(Tunable::kProductColumns, kShape, 7);
  }
  testing::TemporaryFolder folder_;
};

TEST_F(LoadedTuning, ComesFromTheCacheFolderOrWhereTheUserSays) {
  EXPECT_EQ(loaded(), 7);
  folder_.write("tuning.json", with_tuning("", "f", "one", some_tuning(512)));
  EXPECT_EQ(loaded(), 512);
  setenv("METAL_CANDLE_TUNING",
         folder_.write("mine.json", with_tuning("", "f", "one", some_tuning(64))).c_str(), 1);
  EXPECT_EQ(loaded(), 64);
  setenv("METAL_CANDLE_TUNING", "off", 1);
  EXPECT_EQ(loaded(), 7);
}

TEST_F(LoadedTuning, ADamagedCacheIsAWarningAndADamagedChoiceAnError) {
  for (const std::string& text : damaged()) {
    const std::string path = folder_.write("tuning.json", text);
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(loaded(), 7);
    const std::string warning = ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(warning, HasSubstr("warning: " + path)) << text;
    EXPECT_EQ(std::count(warning.begin(), warning.end(), '\n'), 1) << warning;
    setenv("METAL_CANDLE_TUNING", path.c_str(), 1);
    EXPECT_THROW((void)loaded(), FormatError) << text;
    unsetenv("METAL_CANDLE_TUNING");
  }
  setenv("METAL_CANDLE_TUNING", "/nonexistent/tuning.json", 1);
  EXPECT_THROW((void)loaded(), IoError);
}

}  // namespace
}  // namespace metal_candle::backend
