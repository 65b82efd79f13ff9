// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products against the best that direct oneDNN calls do: its plain GEMM, its matmul
// primitive, and that primitive with weights packed the way it likes, all with as many OpenMP
// threads as our kernels use.
#include <fmt/format.h>
#include <omp.h>

#include <atomic>
#include <cstdint>
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

// What bounds a product of one row: its loads alone. Rows of the weight are read eight side by
// side, a strip of columns a thread, as our kernels for few rows read them; and from one end to the
// other, as a library may that has packed the weight beforehand.
#if defined(__x86_64__) && defined(__GNUC__)
#define METAL_CANDLE_WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define METAL_CANDLE_WIDEST
#endif
using Line = std::uint64_t __attribute__((vector_size(64), aligned(8), may_alias));

METAL_CANDLE_WIDEST std::uint64_t read_lines(const std::byte* begin, std::size_t bytes,
                                             std::size_t apart, std::size_t rows) {
  Line sum{};
  for (std::size_t i = 0; i + sizeof(Line) <= bytes; i += sizeof(Line)) {
    for (std::size_t r = 0; r < rows; ++r) {
      sum ^= *reinterpret_cast<const Line*>(begin + r * apart + i);
    }
  }
  return sum[0] ^ sum[3] ^ sum[7];
}

void reading_case(Table& table, DType dtype, const std::string& name) {
  const Tensor w = random::normal({kInner, kColumns}, random::key(2), dtype).eval();
  const auto* const from = static_cast<const std::byte*>(address_of(w));
  const std::size_t row = kColumns * size_of(dtype), all = kInner * row;
  const int threads = backend::cpu::num_threads();
  std::atomic<std::uint64_t> sink{0};
  const auto each_thread = [threads](const auto& fn) {
    return [threads, fn] {
      backend::cpu::parallel_for(threads, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; ++t) fn(static_cast<std::size_t>(t));
      });
    };
  };
  const auto parts = static_cast<std::size_t>(threads);
  const auto by_rows = each_thread([&, from, row, parts](std::size_t t) {
    constexpr std::size_t kRows = 8;
    const std::size_t strip = row / parts / sizeof(Line) * sizeof(Line);
    for (std::size_t r = 0; r < kInner; r += kRows) {
      sink += read_lines(from + r * row + t * strip, strip, row, kRows);
    }
  });
  const auto in_order = each_thread([&, from, all, parts](std::size_t t) {
    constexpr std::size_t kPiece = 4096;
    const std::size_t share = all / parts / kPiece * kPiece;
    for (std::size_t i = 0; i < share; i += kPiece) {
      sink += read_lines(from + t * share + i, kPiece, 0, 1);
    }
  });
  const auto seconds = compete({timed(by_rows), timed(in_order)}, 15);
  Row read{.name = name,
           .value = 1e-9 * static_cast<double>(all) / seconds[0],
           .unit = "GB/s",
           .reference = 1e-9 * static_cast<double>(all) / seconds[1]};
  read.reference_name = "from end to end";
  read.ratio = *read.value / *read.reference;
  table.add(read);
}

}  // namespace

void run_matmul_cases(Table& table, Peer* torch) {
  omp_set_num_threads(backend::cpu::num_threads());
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const std::int64_t m : {1, 8, 128, 512}) {
      const std::string case_name =
          fmt::format("matmul {} m={} n={} k={}", metal_candle::name(dtype), m, kColumns, kInner);
      if (table.wants(case_name)) matmul_case(table, torch, dtype, m, case_name);
      const std::string reads = case_name + ", its loads alone";
      if (m == 1 && table.wants(reads)) reading_case(table, dtype, reads);
    }
  }
}

}  // namespace metal_candle::bench
