// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The engine against itself: what asynchronous execution, and each optimisation pass, is worth.
#include <fmt/format.h>

#include <cmath>
#include <functional>

#include "bench/ops_cases.h"
#include "bench/ops_suite.h"
#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/plan_traffic.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle::bench {
namespace {

constexpr int kRounds = 15;

// Written as a user without the library's composites would.
Tensor rms(const Tensor& x, const Tensor& w) {
  return x * rsqrt(mean(x * x, -1, true) + 1e-5f) * w;
}
Tensor logistic(const Tensor& x) { return 1.0f / (1.0f + exp(-x)); }
Tensor softmax_of(const Tensor& x) {
  const Tensor e = exp(x - max(x, -1, true));
  return e / sum(e, -1, true);
}

struct PassCase {
  const char* pass;
  std::function<std::function<Tensor()>(Operands&)> make;
};

// For each pass that fuses, code that it is for.
std::vector<PassCase> pass_cases() {
  const auto rows = [](Tensor (*fn)(const Tensor& x, const Tensor& w)) {
    return [fn](Operands& make) -> std::function<Tensor()> {
      const Tensor x = make({1024, 2048}), w = make({2048});
      return [=] { return fn(x, w); };
    };
  };
  const auto products = [](Tensor (*fn)(const Tensor& x, const Tensor& w, const Tensor& bias)) {
    return [fn](Operands& make) -> std::function<Tensor()> {
      const Tensor x = make({128, 1024}), w = make({1024, 1024}, DType::kF32, 0.03),
                   bias = make({1024});
      return [=] { return fn(x, w, bias); };
    };
  };
  return {
      {"sigmoid", rows([](const Tensor& x, const Tensor&) { return logistic(x); })},
      {"silu", rows([](const Tensor& x, const Tensor&) { return x * sigmoid(x); })},
      {"gelu", rows([](const Tensor& x, const Tensor&) {
         return 0.5f * x * (1.0f + erf(x * 0.70710678118654752f));
       })},
      {"softmax", rows([](const Tensor& x, const Tensor&) { return softmax_of(x); })},
      {"rms_norm", rows(rms)},
      {"layer_norm", rows([](const Tensor& x, const Tensor& w) {
         const Tensor centred = x - mean(x, -1, true);
         return centred * rsqrt(mean(centred * centred, -1, true) + 1e-5f) * w;
       })},
      {"elementwise",
       rows([](const Tensor& x, const Tensor& w) { return tanh(x * w + x) * w - x; })},
      {"elementwise_reduce",
       rows([](const Tensor& x, const Tensor& w) { return mean(square(x - w)); })},
      {"common_subexpressions",
       rows([](const Tensor& x, const Tensor& w) { return exp(x) * w + exp(x); })},
      {"swiglu", rows([](const Tensor& x, const Tensor& w) { return silu(x) * (x + w); })},
      {"matmul_scale", products([](const Tensor& x, const Tensor& w, const Tensor&) {
         return matmul(x, w) * 0.5f;
       })},
      {"matmul_bias", products([](const Tensor& x, const Tensor& w, const Tensor& bias) {
         return matmul(x, w) + bias;
       })},
      {"matmul_activation", products([](const Tensor& x, const Tensor& w, const Tensor&) {
         return gelu_tanh(matmul(x, w));
       })},
      {"matmul_residual",
       products([](const Tensor& x, const Tensor& w, const Tensor&) { return x + matmul(x, w); })},
      {"lora",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor x = make({128, 2048}), a = make({2048, 8}), b = make({8, 2048});
         return [=] { return matmul(matmul(x, a), b) * 2.0f; };
       }},
      {"lora_linear",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor x = make({128, 1024}), w = make({1024, 1024}), a = make({1024, 8}),
                      b = make({8, 1024});
         return [=] { return matmul(x, w) + matmul(matmul(x, a), b) * 2.0f; };
       }},
      {"attention",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor q = make({1, 8, 512, 64}), k = make({1, 8, 512, 64}),
                      v = make({1, 8, 512, 64});
         return [=] { return matmul(softmax(matmul(q, swapaxes(k, -1, -2)) * 0.125f, -1), v); };
       }},
      {"cross_entropy",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor x = make({256, 8192});
         const Tensor targets = astype(arange(256), DType::kI32).to(x.device()).eval();
         return [=] {
           const Tensor picked = take_along_axis(x, expand_dims(targets, 1), 1);
           return logsumexp(x, -1) - squeeze(picked, 1);
         };
       }},
      {"linear_cross_entropy",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor x = make({256, 256}), w = make({256, 8192}, DType::kF32, 0.06);
         const Tensor targets = astype(arange(256), DType::kI32).to(x.device()).eval();
         return [=] { return cross_entropy(matmul(x, w), targets); };
       }},
      {"product_sum",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor a = make({512, 896}, DType::kBF16), b = make({896, 896}, DType::kBF16, 0.03),
                      c = make({512, 128}, DType::kBF16), d = make({128, 896}, DType::kBF16, 0.03);
         return [=] { return matmul(a, b) + matmul(c, d); };
       }},
      {"norm_linear",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor x = make({1, 2048}), norm = make({2048}),
                      w = make({2048, 2048}, DType::kF32, 0.03);
         return [=] { return matmul(rms_norm(x, norm), w); };
       }},
      {"cached_attention",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor q = make({1, 8, 1, 64}), k = make({1, 8, 1, 64}), v = make({1, 8, 1, 64}),
                      keys = make({1, 8, 256, 64}), values = make({1, 8, 256, 64});
         RopeOptions rotation;
         rotation.frequencies = make({32});
         const Tensor offset = Tensor(std::int32_t{200}).to(q.device()).eval();
         return [=] {
           AttentionOptions options;
           options.causal = true;
           options.key_length = offset + 1;
           return scaled_dot_product_attention(
               rope(q, offset, rotation),
               dynamic_slice_update(keys, rope(k, offset, rotation), offset, {2}),
               dynamic_slice_update(values, v, offset, {2}), options);
         };
       }},
      // Gradients, of which one tensor is made.
      {"swiglu_product",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor gate = make({512, 2048}, DType::kBF16), up = make({512, 2048}, DType::kBF16),
                      down = make({2048, 512}, DType::kBF16, 0.03),
                      dy = make({512, 512}, DType::kBF16);
         const auto gradients = grad([=](const std::vector<Tensor>& x) {
           return sum(astype(matmul(swiglu(x[0], x[1]), down) * dy, DType::kF32));
         });
         return [=] {
           const std::vector<Tensor> both = gradients({gate, up});
           return both[0] + both[1];
         };
       }},
      {"norm_backward_residual",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor x = make({1024, 2048}), norm = make({2048}), dy = make({1024, 2048});
         const auto gradient =
             grad([=](const Tensor& y) { return sum((y + rms_norm(y, norm)) * dy); });
         return [=] { return gradient(x); };
       }},
      {"lora_low",
       [](Operands& make) -> std::function<Tensor()> {
         const Tensor x = make({128, 1024}), w = make({1024, 1024}, DType::kF32, 0.03),
                      a = make({1024, 8}), b = make({8, 1024});
         const auto gradient = grad([=](const Tensor& right) {
           const Tensor y = matmul(x, w) + lora(x, a, right, 2);
           return sum(y * y);
         });
         return [=] { return gradient(b); };
       }},
  };
}

void pass_row(Table& table, Device device, const PassCase& c) {
  const std::string row_name = fmt::format("pass {}", c.pass);
  if (!table.wants(row_name)) return;
  Operands make(device);
  const std::function<Tensor()> fn = c.make(make);
  const PassSet all = PassSet::all(), without = all.without(c.pass);
  const auto with_passes = [&](PassSet passes) {
    return timed([&fn, passes] {
      const ScopedPasses scope(passes);
      fn().eval();
    });
  };
  const auto seconds = compete({with_passes(all), with_passes(without)}, kRounds);
  const auto traffic = [&](PassSet passes) {
    const ScopedPasses scope(passes);
    const Tensor output = fn();
    return plan_traffic({&output, 1});
  };
  const PlanTraffic on = traffic(all), off = traffic(without);
  Row row{.name = row_name, .value = seconds[0] * 1e6, .unit = "us", .reference = seconds[1] * 1e6};
  row.reference_name = "without it";
  row.note = fmt::format("{} steps for {}, {:.1f} MB saved of {:.1f}", on.steps, off.steps,
                         (off.bytes - on.bytes) * 1e-6, off.bytes * 1e-6);
  table.add(row);
}

// Small enough that what surrounds arithmetic counts: blocks of a norm, a LoRA layer and an MLP.
std::function<Tensor()> block_chain(Operands& make) {
  constexpr std::int64_t kWidth = 256;
  const Tensor x = make({4, kWidth}), norm = make({kWidth}),
               up = make({kWidth, 2 * kWidth}, DType::kF32, 0.05),
               down = make({2 * kWidth, kWidth}, DType::kF32, 0.05),
               a = make({kWidth, 8}, DType::kF32, 0.1), b = make({8, kWidth}, DType::kF32, 0.1);
  return [=] {
    Tensor y = x;
    for (int i = 0; i < 4; ++i) {
      const Tensor h = rms(y, norm);
      y = y + matmul(gelu_tanh(matmul(h, up)), down) + matmul(matmul(h, a), b) * 2.0f;
    }
    return y;
  };
}

void mode_rows(Table& table, Device device) {
  constexpr const char* kName = "four small blocks, 4 x 256 f32, async";
  if (!table.wants(kName)) return;
  Operands make(device);
  const std::function<Tensor()> fn = block_chain(make);
  const auto in_mode = [&](ExecutionMode mode) {
    return timed([&fn, mode] {
      const ScopedExecutionMode scope(mode);
      fn().eval();
    });
  };
  constexpr int kDepth = 20;
  const Contestant queued = timed([&fn] {
    Tensor last;
    for (int i = 0; i < kDepth; ++i) {
      last = fn();
      static_cast<void>(last.eval_async());
    }
    last.eval();
  });
  const auto seconds = compete({in_mode(ExecutionMode::kAsync), in_mode(ExecutionMode::kSync),
                                in_mode(ExecutionMode::kEager), [&] { return queued() / kDepth; }},
                               kRounds);
  const auto row = [&](const std::string& name, std::size_t value, std::size_t reference,
                       const char* reference_name) {
    Row r{.name = name,
          .value = seconds[value] * 1e6,
          .unit = "us",
          .reference = seconds[reference] * 1e6};
    r.reference_name = reference_name;
    table.add(r);
  };
  row(std::string(kName) + ", evaluated", 0, 2, "eager");
  row(std::string(kName) + ", queued", 3, 0, "evaluated");
  row("four small blocks, 4 x 256 f32, sync", 1, 2, "eager");
}

std::size_t peak_of(const std::function<Tensor()>& fn, PassSet passes, ExecutionMode mode,
                    Device device) {
  const ScopedPasses scope(passes);
  const ScopedExecutionMode scoped_mode(mode);
  fn().eval();
  synchronize(device);
  reset_peak_memory(device);
  const std::size_t before = memory_use(device).in_use;
  fn().eval();
  return memory_use(device).peak - before;
}

void memory_rows(Table& table, Device device) {
  for (const char* pass : {"attention", "linear_cross_entropy", "elementwise", "softmax"}) {
    const std::string row_name = fmt::format("peak memory, {} in primitives", pass);
    if (!table.wants(row_name)) continue;
    const std::vector<PassCase> cases = pass_cases();
    const auto found = std::ranges::find_if(
        cases, [&](const PassCase& c) { return std::string_view(c.pass) == pass; });
    Operands make(device);
    const std::function<Tensor()> fn = found->make(make);
    const auto megabytes = [&](PassSet passes, ExecutionMode mode) {
      return 1e-6 * static_cast<double>(peak_of(fn, passes, mode, device));
    };
    Row row{.name = row_name,
            .value = megabytes(PassSet::all(), ExecutionMode::kAsync),
            .unit = "MB",
            .reference = megabytes(PassSet::none(), ExecutionMode::kEager)};
    row.reference_name = "eager";
    row.note =
        fmt::format("{:.2f} MB without passes", megabytes(PassSet::none(), ExecutionMode::kAsync));
    table.add(row);
  }
}

}  // namespace

void run_ops_engine_cases(Table& table, Device device) {
  mode_rows(table, device);
  for (const PassCase& c : pass_cases()) pass_row(table, device, c);
  memory_rows(table, device);
}

}  // namespace metal_candle::bench
