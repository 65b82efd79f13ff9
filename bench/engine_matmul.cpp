// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products against the best that direct oneDNN calls do: its plain GEMM, its matmul
// primitive, and that primitive with weights packed the way it likes, all with as many OpenMP
// threads as our kernels use.
#include <fmt/format.h>
#include <omp.h>

#include <dnnl.hpp>
#include <unordered_map>

#include "bench/engine_suite.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle::bench {
namespace {

constexpr std::int64_t kColumns = 4864;
constexpr std::int64_t kInner = 896;

const void* address_of(const Tensor& tensor) {
  const Value& value = tensor.node()->value();
  return static_cast<const std::byte*>(value.storage->contents()) + value.offset;
}

// oneDNN's matmul primitive on the operands, weights packed beforehand if asked for.
class DirectMatmul {
 public:
  DirectMatmul(const Tensor& x, const Tensor& w, bool packed)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Memory = dnnl::memory;
    const auto type = x.dtype() == DType::kBF16 ? Memory::data_type::bf16 : Memory::data_type::f32;
    const auto plain = Memory::format_tag::ab;
    const Memory::desc source({x.dim(0), x.dim(1)}, type, plain);
    const Memory::desc weights({w.dim(0), w.dim(1)}, type, plain);
    const Memory::desc wanted({w.dim(0), w.dim(1)}, type, packed ? Memory::format_tag::any : plain);
    const Memory::desc target({x.dim(0), w.dim(1)}, type, plain);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, wanted, target),
                                                   engine_);
    primitive_ = dnnl::matmul(description);
    Memory given(weights, engine_, const_cast<void*>(address_of(w)));
    Memory used = given;
    if (description.weights_desc() != weights) {
      used = Memory(description.weights_desc(), engine_);
      dnnl::reorder(given, used).execute(stream_, given, used);
      stream_.wait();
    }
    arguments_ = {{DNNL_ARG_SRC, Memory(source, engine_, const_cast<void*>(address_of(x)))},
                  {DNNL_ARG_WEIGHTS, used},
                  {DNNL_ARG_DST, Memory(target, engine_)}};
  }
  void run() {
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul primitive_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

// Those direct calls that this machine's oneDNN has.
std::vector<std::pair<std::string, Contestant>> direct_contestants(const Tensor& x,
                                                                   const Tensor& w) {
  std::vector<std::pair<std::string, Contestant>> found;
  for (const bool packed : {false, true}) {
    try {
      auto direct = std::make_shared<DirectMatmul>(x, w, packed);
      found.emplace_back(packed ? "oneDNN matmul, packed" : "oneDNN matmul",
                         timed([direct] { direct->run(); }));
    } catch (const dnnl::error&) {
      // Not on this processor.
    }
  }
  if (x.dtype() == DType::kF32) {
    auto target =
        std::make_shared<std::vector<float>>(static_cast<std::size_t>(x.dim(0) * w.dim(1)));
    found.emplace_back("oneDNN sgemm", timed([x, w, target] {
                         dnnl_sgemm('N', 'N', x.dim(0), w.dim(1), x.dim(1), 1,
                                    static_cast<const float*>(address_of(x)), x.dim(1),
                                    static_cast<const float*>(address_of(w)), w.dim(1), 0,
                                    target->data(), w.dim(1));
                       }));
  }
  return found;
}

void matmul_case(Table& table, Peer* torch, DType dtype, std::int64_t m, const std::string& name) {
  const Tensor x = random::normal({m, kInner}, random::key(1), dtype).eval();
  const Tensor w = random::normal({kInner, kColumns}, random::key(2), dtype).eval();
  std::vector<Contestant> contestants{timed([&] { matmul(x, w).eval(); })};
  const auto direct = direct_contestants(x, w);
  for (const auto& [label, contestant] : direct) contestants.push_back(contestant);
  if (torch != nullptr) {
    contestants.push_back(torch->contestant(
        fmt::format("matmul {} {} {} {}", dtype == DType::kBF16 ? "bfloat16" : "float32", m, kInner,
                    kColumns)));
  }
  const auto seconds = compete(contestants, 15);
  const double flops = 2e-9 * static_cast<double>(m * kInner * kColumns);
  Row row{.name = name, .value = flops / seconds[0], .unit = "GFLOP/s"};
  for (std::size_t i = 0; i < direct.size(); ++i) {
    const double rate = flops / seconds[i + 1];
    if (row.reference && *row.reference >= rate) continue;
    row.reference = rate;
    row.reference_name = direct[i].first;
  }
  if (torch != nullptr) row.note = fmt::format("PyTorch {:.3g}", flops / seconds.back());
  if (direct.empty()) row.note += " oneDNN has no such product on this processor";
  table.add(judge_ratio(row, Bound::kAtLeast, 0.95));
}

}  // namespace

void run_matmul_cases(Table& table, Peer* torch) {
  omp_set_num_threads(backend::cpu::num_threads());
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const std::int64_t m : {1, 8, 128, 512}) {
      const std::string case_name =
          fmt::format("matmul {} m={} n={} k={}", metal_candle::name(dtype), m, kColumns, kInner);
      if (table.wants(case_name)) matmul_case(table, torch, dtype, m, case_name);
    }
  }
}

}  // namespace metal_candle::bench
