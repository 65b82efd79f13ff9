// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Every family of decoders, in odd configurations, against Hugging Face transformers: what
// scripts/make_model_fixtures.py wrote.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/models/decoder.h"
#include "tests/support/host_tensor.h"

namespace metal_candle {
namespace {

using testing::all_close;
using testing::HostTensor;
using testing::Tolerance;

// Both sides compute in f32, in different orders; logits are around 5.
constexpr Tolerance kLogits = {1e-5, 2e-5};
constexpr Tolerance kGradients = {1e-4, 1e-5};

std::string folder_of(const std::string& model) {
  return std::string(METAL_CANDLE_SOURCE_DIR) + "/tests/fixtures/models/" + model;
}

std::vector<std::string> all_models() {
  std::vector<std::string> models;
  for (const auto& entry : std::filesystem::directory_iterator(folder_of("")))
    models.push_back(entry.path().filename().string());
  std::sort(models.begin(), models.end());
  return models;
}

HostTensor values(const Tensor& tensor) { return testing::read_evaluated(Tensor(tensor).eval()); }

class Family : public ::testing::TestWithParam<std::string> {
 protected:
  Decoder model_ = Decoder::load(folder_of(GetParam()), {.dtype = DType::kF32});
  TensorFiles expected_ = TensorFiles::open(folder_of(GetParam()) + "/expected.safetensors");
  Tensor tokens_ = expected_.tensor("tokens");

  // Logits of the tokens, given to a cache in chunks of these lengths.
  [[nodiscard]] Tensor cached_logits(const std::vector<std::int64_t>& chunks,
                                     std::int64_t capacity) const {
    KvCache cache = KvCache::make(model_.config(), tokens_.dim(0), capacity, DType::kF32);
    ForwardOptions options;
    options.cache = &cache;
    std::vector<Tensor> parts;
    std::int64_t start = 0;
    for (const std::int64_t chunk : chunks) {
      const Tensor part = tokens_.slice({{}, {start, start + chunk}});
      parts.push_back(model_.logits(model_.hidden_states(part, options)));
      std::vector<Tensor> outputs = cache.tensors();
      outputs.push_back(parts.back());
      eval(outputs);
      start += chunk;
    }
    return concatenate(parts, 1);
  }
};

TEST_P(Family, LogitsAreThoseOfTransformers) {
  const Tensor logits = model_.logits(model_.hidden_states(tokens_));
  EXPECT_TRUE(all_close(values(logits), values(expected_.tensor("logits")), kLogits));
}

TEST_P(Family, CachedLogitsToo) {
  const std::int64_t length = tokens_.dim(1);
  const std::vector<std::int64_t> ones(static_cast<std::size_t>(length), 1);
  // With dynamic scaling, positions in the cache keep the rotation they got when the sequence was
  // shorter: in transformers too.
  const bool dynamic = model_.config().rope_scaling.kind == RopeScaling::Kind::kDynamic;
  const HostTensor expected = values(expected_.tensor(dynamic ? "cached" : "logits"));
  EXPECT_TRUE(all_close(values(cached_logits(ones, length)), expected, kLogits));
  EXPECT_TRUE(all_close(values(cached_logits(ones, length + 9)), expected, kLogits));
  if (dynamic) return;
  EXPECT_TRUE(all_close(values(cached_logits({length}, length)), expected, kLogits));
  const std::vector<std::int64_t> chunks = {5, 1, length - 7, 1};
  EXPECT_TRUE(all_close(values(cached_logits(chunks, 2 * length)), expected, kLogits));
}

TEST_P(Family, LossAndGradientsAreThoseOfTransformers) {
  const std::int64_t length = tokens_.dim(1);
  // The last token, which has no target, counts for the frequencies of dynamic scaling.
  const Tensor targets = concatenate({expected_.tensor("labels").slice({{}, {1, length}}),
                                      full({tokens_.dim(0), 1}, -100, DType::kI32)},
                                     1);
  const Tensor count = sum(astype(targets != -100, DType::kF32));
  Tree wanted;
  const Tree parameters = model_.parameters();
  for (const auto& [name, tensor] : parameters.dict()) {
    if (expected_.contains("grad." + name)) wanted[name] = tensor;
  }
  const Tensor expected_loss = expected_.tensor("loss");
  if (wanted.size() == 0) {
    EXPECT_TRUE(all_close(values(model_.summed_loss(tokens_, targets) / count),
                          values(expected_loss), {1e-5, 0}));
    return;
  }
  const auto [loss, gradient] = value_and_grad([&](const Tree& weights) {
    return model_.with_parameters(weights).summed_loss(tokens_, targets) / count;
  })(wanted);
  EXPECT_TRUE(all_close(values(loss), values(expected_loss), {1e-5, 0}));
  for (const auto& [name, tensor] : gradient.dict()) {
    EXPECT_TRUE(
        all_close(values(tensor.tensor()), values(expected_.tensor("grad." + name)), kGradients))
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Family, ::testing::ValuesIn(all_models()),
                         [](const auto& test) { return test.param; });

double largest_difference(const HostTensor& a, const HostTensor& b) {
  double largest = 0;
  for (std::int64_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(a.r(i) - b.r(i)));
  return largest;
}

TEST(Families, Bf16IsNoFurtherFromF32ThanTransformersIs) {
  const std::string folder = folder_of("qwen3_windows");
  const Decoder model = Decoder::load(folder);
  ASSERT_EQ(model.dtype(), DType::kBF16);
  const TensorFiles expected = TensorFiles::open(folder + "/expected.safetensors");
  const Tensor logits = model.logits(model.hidden_states(expected.tensor("tokens")));
  ASSERT_EQ(logits.dtype(), DType::kBF16);
  const HostTensor exact = values(expected.tensor("logits"));
  const double theirs = largest_difference(values(expected.tensor("bf16")), exact);
  EXPECT_GT(theirs, 0);
  EXPECT_LE(largest_difference(values(logits), exact), theirs);
}

}  // namespace
}  // namespace metal_candle
