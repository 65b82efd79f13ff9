// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Adapters over one base: each its own, the base untouched, from many threads.
#include "metal_candle/lora/adapter_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/generate/generator.h"
#include "metal_candle/graph/ops.h"
#include "tests/generate/tiny_model.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::tiny_config;
using testing::tiny_decoder;
using testing::tiny_prompt;

// An update of every linear layer that changes something.
Adapter adapter_of(const Decoder& model, std::uint64_t seed) {
  LoraConfig config;
  config.rank = 3;
  config.target_modules = {"all-linear"};
  Adapter adapter = make_adapter(model, config, random::key(seed));
  std::uint32_t index = 0;
  for (auto& [path, weights] : adapter.weights.dict()) {
    const Tensor& b = weights.tensor("lora_b");
    weights["lora_b"] = random::normal(b.shape(), random::fold_in(random::key(seed), ++index));
  }
  eval(adapter.weights.leaves());
  return adapter;
}

Tensor logits_of(const Decoder& model) {
  return model.logits(model.hidden_states(Tensor(tiny_prompt(9), {1, 9})));
}

bool close(const Tensor& a, const Tensor& b) { return allclose(a, b, 1e-3, 1e-3).item<bool>(); }

TEST(AdapterRegistry, AdaptersDifferAndTheBaseStays) {
  const Decoder base = tiny_decoder();
  const Tensor before = logits_of(base).eval();
  AdapterRegistry registry(base);
  registry.add("pirate", adapter_of(base, 1));
  registry.add("poet", adapter_of(base, 2));
  EXPECT_THAT(registry.names(), ElementsAre("pirate", "poet"));
  const Tensor pirate = logits_of(registry.model("pirate"));
  const Tensor poet = logits_of(registry.model("poet"));
  EXPECT_FALSE(close(pirate, poet));
  EXPECT_FALSE(close(pirate, before));
  EXPECT_TRUE(close(pirate, logits_of(merge_adapter(base, adapter_of(base, 1)))));
  EXPECT_TRUE(close(poet, logits_of(merge_adapter(base, adapter_of(base, 2)))));
  EXPECT_EQ(logits_of(registry.model()).to_vector<float>(), before.to_vector<float>());
}

TEST(AdapterRegistry, WeightsAreInMemoryOnce) {
  const Decoder base = tiny_decoder();
  AdapterRegistry registry(base);
  registry.add("a", adapter_of(base, 1));
  const Tree own = base.parameters();
  const Tree adapted = registry.model("a").parameters();
  for (const auto& [name, tensor] : own.dict()) {
    EXPECT_TRUE(tensor.tensor().same_node(adapted.tensor(name))) << name;
  }
  const std::size_t memory = memory_use().in_use;
  const std::vector<Decoder> models(50, registry.model("a"));
  EXPECT_EQ(memory_use().in_use, memory);
}

TEST(AdapterRegistry, TheAdapterIsInTheModelsDtype) {
  const Decoder base = Decoder::random(tiny_config(), random::key(1), DType::kBF16, 0.3);
  AdapterRegistry registry(base);
  registry.add("a", adapter_of(base, 1));
  int adapted = 0;
  const Decoder model = registry.model("a");
  model.for_each_linear([&](const std::string& path, std::int64_t, const Linear& linear) {
    ++adapted;
    EXPECT_EQ(linear.lora.a.dtype(), DType::kBF16) << path;
    EXPECT_TRUE(linear.lora.b.is_evaluated()) << path;
  });
  EXPECT_EQ(adapted, 14);
}

TEST(AdapterRegistry, ReplacedAndRemovedOnesGoOnWhereTheyAreUsed) {
  const Decoder base = tiny_decoder();
  AdapterRegistry registry(base);
  registry.add("a", adapter_of(base, 1));
  const Decoder old = registry.model("a");
  const Tensor expected = logits_of(old).eval();
  registry.add("a", adapter_of(base, 2));
  EXPECT_FALSE(close(logits_of(registry.model("a")), expected));
  registry.remove("a");
  EXPECT_TRUE(registry.names().empty());
  EXPECT_TRUE(close(logits_of(old), expected));
}

TEST(AdapterRegistry, ErrorsNameTheAdapter) {
  const Decoder base = tiny_decoder();
  AdapterRegistry registry(base);
  EXPECT_THAT(message_of<Error>([&] { static_cast<void>(registry.model("x")); }),
              HasSubstr("no adapter \"x\", nor any other"));
  registry.add("known", adapter_of(base, 1));
  EXPECT_THAT(message_of<Error>([&] { static_cast<void>(registry.model("x")); }),
              HasSubstr("no adapter \"x\", but known"));
  EXPECT_THAT(message_of<Error>([&] { registry.remove("x"); }), HasSubstr("but known"));
  EXPECT_THAT(message_of<Error>([&] { registry.add("", adapter_of(base, 1)); }),
              HasSubstr("empty name"));
  DecoderConfig wide = tiny_config();
  wide.intermediate_size = 50;
  EXPECT_THAT(
      message_of<ShapeError>([&] { registry.add("wide", adapter_of(tiny_decoder(wide), 1)); }),
      HasSubstr("wide: adapter: model.layers.0.mlp."));
  DecoderConfig deep = tiny_config();
  deep.num_hidden_layers = 3;
  deep.windows = {0, 0, 0};
  EXPECT_THAT(message_of<Error>([&] { registry.add("deep", adapter_of(tiny_decoder(deep), 1)); }),
              HasSubstr("deep: adapter: the model has no layer model.layers.2"));
  EXPECT_THAT(registry.names(), ElementsAre("known"));
}

TEST(AdapterRegistry, ThreadsGenerateWithDifferentAdaptersWhileOthersCome) {
  const Decoder base = tiny_decoder();
  AdapterRegistry registry(base);
  registry.add("a", adapter_of(base, 1));
  registry.add("b", adapter_of(base, 2));
  const std::vector<std::string> names = {"", "a", "b"};
  GenerateOptions options;
  options.max_tokens = 30;
  const auto generate = [&](const std::string& name) {
    Generator generator(registry.model(name));
    return generator.generate(tiny_prompt(7), options).tokens;
  };
  std::vector<std::vector<std::int32_t>> expected;
  for (const std::string& name : names) expected.push_back(generate(name));
  EXPECT_NE(expected[0], expected[1]);
  EXPECT_NE(expected[1], expected[2]);
  std::atomic<bool> done = false;
  std::thread other([&] {
    const Adapter adapter = adapter_of(base, 3);
    while (!done) {
      registry.add("c", adapter);
      registry.remove("c");
    }
  });
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 6; ++i) {
        const std::size_t which = (t + i) % names.size();
        EXPECT_EQ(generate(names[which]), expected[which]) << names[which];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  done = true;
  other.join();
}

TEST(AdapterRegistry, OneGeneratorSwitches) {
  const Decoder base = tiny_decoder();
  AdapterRegistry registry(base);
  registry.add("a", adapter_of(base, 1));
  Generator generator(registry.model());
  const auto plain = generator.generate(tiny_prompt(7)).tokens;
  generator.set_model(registry.model("a"));
  EXPECT_NE(generator.generate(tiny_prompt(7)).tokens, plain);
  generator.set_model(registry.model());
  EXPECT_EQ(generator.generate(tiny_prompt(7)).tokens, plain);
}

}  // namespace
}  // namespace metal_candle
