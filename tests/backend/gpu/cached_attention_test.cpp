// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A step of decoding on the GPU in software: the kernel against the reference interpreter, and
// whole programs whose caches are written in place, or are not because somebody holds them.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/plan.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/models/decoder.h"
#include "metal_candle/models/kv_cache.h"
#include "metal_candle/optimize/graph_optimizer.h"
#include "metal_candle/optimize/lowering.h"
#include "tests/backend/gpu/gpu_placement.h"
#include "tests/backend/gpu/random_operand.h"

namespace metal_candle::testing {
namespace {

struct Case {
  std::int64_t batch = 1, heads = 4, key_heads = 2, capacity = 16, width = 64;
  std::int64_t offset = 5;
  std::vector<std::int64_t> lengths = {6};  // One, or one a batch.
  int dims = 64;
  float rope_scale = 1;
};

op::CachedAttention operation_of(const Case& c) {
  return {{c.dims, false, false, c.rope_scale},
          {1.0f / std::sqrt(static_cast<float>(c.width)), true, 0, false, true}};
}

std::vector<HostTensor> operands_of(const Case& c, DType dtype) {
  std::vector<HostTensor> all = {
      random_operand({c.batch, c.heads, 1, c.width}, dtype, 1),
      random_operand({c.batch, c.key_heads, 1, c.width}, dtype, 2),
      random_operand({c.batch, c.key_heads, 1, c.width}, dtype, 3),
      random_operand({c.batch, c.key_heads, c.capacity, c.width}, dtype, 4),
      random_operand({c.batch, c.key_heads, c.capacity, c.width}, dtype, 5),
      HostTensor::of_integers({}, {c.offset}),
      HostTensor(Shape{c.dims / 2}, DType::kF32),
      HostTensor::of_integers(c.lengths.size() == 1 ? Shape{} : Shape{c.batch}, c.lengths)};
  for (std::int64_t i = 0; i < c.dims / 2; ++i) {
    all[6].r(i) = round_to(std::pow(100.0, -2.0 * static_cast<double>(i) / c.dims), DType::kF32);
  }
  // What lies beyond the length may be anything.
  for (std::size_t input : {std::size_t{3}, std::size_t{4}}) {
    const std::int64_t row = c.key_heads * c.capacity * c.width;
    for (std::int64_t i = 0; i < all[input].size(); ++i) {
      const std::int64_t length =
          c.lengths[c.lengths.size() == 1 ? 0 : static_cast<std::size_t>(i / row)];
      if (i / c.width % c.capacity >= length) {
        all[input].r(i) = std::numeric_limits<double>::quiet_NaN();
      }
    }
  }
  return all;
}

struct Run {
  std::size_t shift = 0;  // Elements, from an aligned address.
  bool in_place = true;
  std::vector<char> needed = {1, 1, 1};
};

/// Checks all outputs that are needed.
void check(const Case& c, DType dtype, const Run& run = {}) {
  SCOPED_TRACE(std::string(name(dtype)) + " heads " + std::to_string(c.heads) + " width " +
               std::to_string(c.width) + " capacity " + std::to_string(c.capacity) + " offset " +
               std::to_string(c.offset) + " length " + std::to_string(c.lengths[0]) + " shift " +
               std::to_string(run.shift) + " in place " + std::to_string(run.in_place));
  const Operation operation = operation_of(c);
  const std::vector<HostTensor> hosts = operands_of(c, dtype);
  std::vector<const HostTensor*> pointers;
  std::vector<TensorSpec> specs;
  for (const HostTensor& host : hosts) {
    pointers.push_back(&host);
    specs.push_back(host.spec);
  }
  const backend::gpu::GpuBackend& backend = gpu_sim::sim_backend();
  ASSERT_TRUE(backend.supports(operation, specs));
  const TensorSpec results[] = {hosts[0].spec, hosts[3].spec, hosts[4].spec};

  std::vector<ShiftedMemory> memories;
  std::vector<TensorLayout> layouts, output_layouts;
  std::vector<void*> inputs, outputs;
  memories.reserve(hosts.size() + 3);
  for (const HostTensor& host : hosts) {
    const std::size_t unit = size_of(host.dtype());
    ShiftedMemory& memory = memories.emplace_back(host.spec.bytes(), run.shift * unit);
    for (std::int64_t i = 0; i < host.size(); ++i) write_element(host, i, memory.data(), i);
    layouts.push_back(TensorLayout::contiguous(host.spec));
    inputs.push_back(memory.data());
  }
  for (std::size_t i = 0; i < 3; ++i) {
    const std::size_t unit = size_of(dtype);
    output_layouts.push_back(TensorLayout::contiguous(results[i]));
    void* own = memories.emplace_back(results[i].bytes(), run.shift * unit).data();
    if (i > 0 && run.in_place) own = inputs[2 + i];
    outputs.push_back(run.needed[i] != 0 ? own : nullptr);
  }
  const std::span<const bool> needed(reinterpret_cast<const bool*>(run.needed.data()), 3);
  const auto kernel = backend.make_kernel({operation, layouts, output_layouts, needed});
  gpu_sim::SimEncoder encoder;
  static_cast<const backend::gpu::GpuKernel&>(*kernel).encode({inputs, outputs, nullptr}, encoder);
  for (const ShiftedMemory& memory : memories) EXPECT_TRUE(memory.intact());

  const std::vector<HostTensor> expected = interpret_operation(operation, pointers, results[0]);
  const double epsilon = dtype == DType::kF32 ? 2e-5 : dtype == DType::kF16 ? 4e-3 : 2e-2;
  for (std::size_t i = 0; i < 3; ++i) {
    if (outputs[i] == nullptr) continue;
    EXPECT_TRUE(all_close(read_contiguous(outputs[i], results[i]), expected[i],
                          Tolerance{epsilon, epsilon}))
        << "output " << i;
  }
}

TEST(GpuCachedAttention, AgreesWithTheReference) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    check({}, dtype);
    check({.heads = 14, .capacity = 200, .offset = 150, .lengths = {151}}, dtype);
    check({.batch = 2,
           .heads = 3,
           .key_heads = 3,
           .capacity = 40,
           .width = 128,
           .offset = 33,
           .lengths = {34},
           .dims = 128},
          dtype);
    check(
        {.batch = 3, .heads = 4, .key_heads = 1, .capacity = 9, .offset = 2, .lengths = {3, 9, 1}},
        dtype);
  }
}

// Fewer keys than a group has teams, as many as it reads at once, one more, and many times that.
TEST(GpuCachedAttention, AnyLength) {
  for (const std::int64_t length : {1, 2, 31, 32, 33, 127, 128, 129, 256, 257, 700, 1024}) {
    check({.heads = 2, .key_heads = 1, .capacity = 1024, .offset = length - 1, .lengths = {length}},
          DType::kBF16);
  }
  check({.heads = 2, .key_heads = 1, .capacity = 1, .offset = 0, .lengths = {1}}, DType::kF32);
  check({.heads = 1,
         .key_heads = 1,
         .capacity = 300,
         .width = 128,
         .offset = 299,
         .lengths = {300},
         .dims = 128},
        DType::kF32);
}

TEST(GpuCachedAttention, OffsetsAndLengthsThatAreNotOneApart) {
  for (const std::int64_t offset : {-3, 0, 7, 15, 16, 40}) {
    for (const std::int64_t length : {0, 1, 8, 16}) {
      check({.offset = offset, .lengths = {length}}, DType::kF32);
    }
  }
}

TEST(GpuCachedAttention, PartOfAHeadIsRotated) {
  for (const int dims : {2, 20, 32, 62}) {
    check({.dims = dims, .rope_scale = 0.25f}, DType::kF32);
    check({.width = 128, .dims = dims}, DType::kBF16);
  }
}

TEST(GpuCachedAttention, WhereverOperandsBegin) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t width : {64, 128}) {
      check({.width = width}, dtype, {.shift = 1});
    }
  }
}

TEST(GpuCachedAttention, CachesThatAreKept) {
  check({}, DType::kF32, {.in_place = false});
  check({.capacity = 33}, DType::kBF16, {.shift = 3, .in_place = false});
}

TEST(GpuCachedAttention, OutputsThatNobodyNeeds) {
  for (const bool in_place : {false, true}) {
    check({}, DType::kF32, {.in_place = in_place, .needed = {1, 0, 0}});
    check({}, DType::kF32, {.in_place = in_place, .needed = {0, 1, 0}});
    check({}, DType::kF32, {.in_place = in_place, .needed = {1, 0, 1}});
  }
}

TEST(GpuCachedAttention, LeavesOthersToTheirParts) {
  const auto supports = [](const Case& c, auto change) {
    op::CachedAttention operation = operation_of(c);
    change(operation);
    std::vector<TensorSpec> specs;
    for (const HostTensor& host : operands_of(c, DType::kF32)) specs.push_back(host.spec);
    return gpu_sim::sim_backend().supports(operation, specs);
  };
  const auto same = [](op::CachedAttention&) {};
  EXPECT_TRUE(supports({}, same));
  EXPECT_TRUE(supports({}, [](auto& o) { o.attention.window = 16; }));
  EXPECT_FALSE(supports({}, [](auto& o) { o.attention.window = 15; }));
  EXPECT_FALSE(supports({}, [](auto& o) { o.rope.interleaved = true; }));
  EXPECT_FALSE(supports({}, [](auto& o) { o.rope.inverse = true; }));
  EXPECT_FALSE(supports({.width = 72}, same));
  EXPECT_FALSE(supports({.capacity = 1025}, same));
  EXPECT_FALSE(supports({.heads = 18}, same));  // Where rows are many, a group takes several.
}

// ---- The planner

ComputationGraph step_graph(bool caches_are_leaves) {
  ComputationGraph graph;
  const auto input = [&](const Shape& shape, DType dtype = DType::kF32) {
    return graph.add_input(TensorLayout::contiguous({shape, dtype}));
  };
  const TensorSpec cache{{1, 2, 16, 64}, DType::kF32};
  const NodeId q = input({1, 4, 1, 64}), k = input({1, 2, 1, 64}), v = input({1, 2, 1, 64});
  NodeId keys = input(cache.shape), values = input(cache.shape);
  const NodeId offset = input({}, DType::kI32), frequencies = input({32}),
               length = input({}, DType::kI32);
  if (!caches_are_leaves) {
    keys = graph.add(op::Unary{UnaryKind::kExp}, {keys});
    values = graph.add(op::Unary{UnaryKind::kExp}, {values});
  }
  const NodeId all =
      graph.add(op::CachedAttention{{64, false, false, 1}, {1, true, 0, false, true}},
                {q, k, v, keys, values, offset, frequencies, length});
  graph.add_output(graph.add(op::Pick{0}, {all}, graph.node(q).spec));
  graph.add_output(graph.add(op::Pick{1}, {all}, cache));
  graph.add_output(graph.add(op::Pick{2}, {all}, cache));
  graph.compact();
  return graph;
}

TEST(GpuCachedAttentionPlan, LeavesMayBeDonatedToEachCache) {
  const ComputationGraph graph = step_graph(true);
  const Plan plan = make_plan(graph, gpu_sim::sim_backend());
  ASSERT_EQ(plan.steps.size(), 1u);
  ASSERT_EQ(plan.donations.size(), 2u);
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}}) {
    EXPECT_EQ(plan.donations[i].leaf, plan.steps[0].inputs[3 + i].index);
    EXPECT_EQ(plan.donations[i].output_buffer, plan.steps[0].outputs[1 + i].index);
  }
}

TEST(GpuCachedAttentionPlan, IntermediatesAreOverwritten) {
  const ComputationGraph graph = step_graph(false);
  const Plan plan = make_plan(graph, gpu_sim::sim_backend());
  ASSERT_EQ(plan.steps.size(), 3u);
  const PlanStep& step = plan.steps[2];
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}}) {
    EXPECT_EQ(step.inputs[3 + i].kind, PlanRegion::Kind::kOutput);
    EXPECT_EQ(step.inputs[3 + i].index, step.outputs[1 + i].index);
  }
  EXPECT_NE(step.outputs[1].index, step.outputs[2].index);
  EXPECT_EQ(plan.output_buffers.size(), 3u);
}

// ---- Whole programs

DecoderConfig small_config() {
  DecoderConfig config;
  config.model_type = "qwen3";
  config.vocab_size = 97;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  config.max_position_embeddings = 400;
  config.tie_word_embeddings = true;
  config.qk_norm = true;
  config.windows = {0, 0};
  return config;
}

// Each layer is one kernel from the products of q, k and v to that of the output.
TEST(GpuCachedAttentionPrograms, ADecodersLayersAreFused) {
  for (const bool qk_norm : {false, true}) {
    DecoderConfig config = small_config();
    config.qk_norm = qk_norm;
    config.qkv_bias = !qk_norm;
    const Decoder decoder = Decoder::random(config, random::key(1), DType::kBF16, 0.3);
    KvCache cache = KvCache::make(config, 1, 32, DType::kBF16);
    eval(cache.tensors());
    const Tensor token(std::vector<std::int32_t>{5}, {1, 1});
    std::vector<Tensor> outputs = {decoder.hidden_states(token, {.cache = &cache})};
    for (const Tensor& tensor : cache.tensors()) outputs.push_back(tensor);
    ComputationGraph graph = trace_values(outputs).graph;
    const backend::gpu::GpuBackend& backend = gpu_sim::sim_backend();
    optimize_for_backend(graph, GraphOptimizer(PassSet::all()),
                         [&](const Operation& operation, std::span<const TensorSpec> inputs) {
                           return backend.supports(operation, inputs);
                         });
    int fused = 0;
    for (NodeId id = 0; id < graph.size(); ++id) {
      fused += graph.get_if<op::CachedAttention>(id) != nullptr ? 1 : 0;
      EXPECT_EQ(graph.get_if<op::Rope>(id), nullptr) << graph.to_text();
      EXPECT_EQ(graph.get_if<op::DynamicSliceUpdate>(id), nullptr) << graph.to_text();
      EXPECT_EQ(graph.get_if<op::Attention>(id), nullptr) << graph.to_text();
    }
    EXPECT_EQ(fused, 2);
    const Plan plan = make_plan(graph, backend);
    EXPECT_GE(plan.donations.size(), 4u);  // Of the caches.
    for (const PlanStep& step : plan.steps) {
      EXPECT_NE(step.label.name, "identity") << "an operand is copied";
    }
  }
}

std::vector<std::vector<float>> decode(Device device, bool holds) {
  const Device before = default_device();
  set_default_device(device);
  const Decoder decoder = Decoder::random(small_config(), random::key(1), DType::kF32, 0.3);
  KvCache cache = KvCache::make(decoder.config(), 1, 32, DType::kF32);
  std::vector<std::vector<float>> logits;
  std::vector<KvCache> held;
  const auto step = [&](const std::vector<std::int32_t>& tokens) {
    if (holds) held.push_back(cache);
    const Tensor ids(tokens, {1, static_cast<std::int64_t>(tokens.size())});
    const Tensor out = decoder.logits(decoder.hidden_states(ids, {.cache = &cache}));
    std::vector<Tensor> outputs = cache.tensors();
    outputs.push_back(out);
    eval(outputs);
    logits.push_back(out.to_vector<float>());
  };
  step({5, 9, 33});
  const void* const memory = cache.layers[1].values.node()->value().storage->buffer();
  for (const std::int32_t token : {7, 60, 2, 11}) step({token});
  const void* const now = cache.layers[1].values.node()->value().storage->buffer();
  EXPECT_EQ(memory == now, !holds);
  for (const KvCache& old : held) {
    // What was held is as it was: nothing beyond its length.
    const auto length = static_cast<std::size_t>(old.length.item<std::int32_t>());
    const std::vector<float> keys = old.layers[0].keys.to_vector<float>();
    for (std::size_t row = length; row < 32; ++row) EXPECT_EQ(keys[row * 64], 0.0f);
  }
  set_default_device(before);
  return logits;
}

TEST(GpuCachedAttentionPrograms, ADecoderGivesWhatItGivesOnTheCpu) {
  const Device gpu = gpu_sim::use_sim_backend();
  for (const bool holds : {false, true}) {
    const auto expected = decode(Device::cpu(), holds);
    const auto actual = decode(gpu, holds);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      for (std::size_t j = 0; j < expected[i].size(); ++j) {
        ASSERT_NEAR(actual[i][j], expected[i][j], 2e-3 * (1 + std::abs(expected[i][j]))) << i;
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
