// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// oneDNN computes with OpenMP teams. Ours are teams of one, for the duration of a call: the number
// of OpenMP threads is a property of the calling thread, which may be the user's.
#include "metal_candle/backend/cpu/onednn.h"

#include <omp.h>
#include <pthread.h>

#include <array>
#include <cstdlib>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "metal_candle/backend/cpu/exit_gate.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

class SingleThreaded {
 public:
  SingleThreaded() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~SingleThreaded() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  int before_;
};

// Which of an operand's strides is 1, as BLAS says it, and the other.
char transposition(const Matrix& matrix) { return matrix.column_stride == 1 ? 'N' : 'T'; }
std::int64_t leading_dimension(const Matrix& matrix) {
  return matrix.column_stride == 1 ? matrix.row_stride : matrix.column_stride;
}

const dnnl::engine& engine() {
  // Never destroyed, as kernels may run on other threads while the process exits.
  static const auto* instance = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *instance;
}

dnnl::memory::data_type type_of(DType dtype) {
  return dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

// m, n, k, the strides of a (rows, columns) and of b, ldc, the dtype of a and b, and whether the
// product is added to c.
using ProductKey = std::array<std::int64_t, 10>;

dnnl::primitive_attr adding(bool accumulate) {
  dnnl::primitive_attr attributes;
  if (!accumulate) return attributes;
  dnnl::post_ops after;
  after.append_sum();
  attributes.set_post_ops(after);
  return attributes;
}

struct PreparedProduct {
  explicit PreparedProduct(const ProductKey& key)
      : a({key[0], key[2]}, type_of(DType(key[8])), dnnl::memory::dims{key[3], key[4]}),
        b({key[2], key[1]}, type_of(DType(key[8])), dnnl::memory::dims{key[5], key[6]}),
        c({key[0], key[1]}, dnnl::memory::data_type::f32, dnnl::memory::dims{key[7], 1}),
        matmul(dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, c), adding(key[9] != 0),
                                            engine())) {}

  dnnl::memory::desc a, b, c;
  dnnl::matmul matmul;
};

// A model has few shapes of products, each cut into blocks of at most four sizes.
constexpr std::size_t kMaxPrepared = 64;

// A thread prepares its own, one thread at a time: oneDNN 2.6 compares a new product with those
// that other threads are adding to its cache.
const PreparedProduct& prepared_product(const ProductKey& key) {
  thread_local std::map<ProductKey, PreparedProduct> prepared;
  const auto found = prepared.find(key);
  if (found != prepared.end()) return found->second;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (prepared.size() >= kMaxPrepared) prepared.clear();
  return prepared.try_emplace(key, key).first->second;
}

void sgemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
           float* c, std::int64_t ldc, bool accumulate) {
  const SingleThreaded guard;
  const dnnl_status_t status = dnnl_sgemm(transposition(a), transposition(b), m, n, k, 1.0f,
                                          static_cast<const float*>(a.data), leading_dimension(a),
                                          static_cast<const float*>(b.data), leading_dimension(b),
                                          accumulate ? 1.0f : 0.0f, c, ldc);
  if (status != dnnl_success) {
    throw DeviceError("cpu: oneDNN's sgemm failed for [" + std::to_string(m) + ", " +
                      std::to_string(k) + "] @ [" + std::to_string(k) + ", " + std::to_string(n) +
                      "] with status " + std::to_string(static_cast<int>(status)));
  }
}

void matmul(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
            float* c, std::int64_t ldc, bool accumulate) {
  const SingleThreaded guard;
  try {
    const PreparedProduct& product =
        prepared_product({m, n, k, a.row_stride, a.column_stride, b.row_stride, b.column_stride,
                          ldc, static_cast<std::int64_t>(a.dtype), accumulate ? 1 : 0});
    thread_local dnnl::stream stream(engine());
    const auto memory = [](const dnnl::memory::desc& desc, const void* data) {
      return dnnl::memory(desc, engine(), const_cast<void*>(data));
    };
    product.matmul.execute(stream, {{DNNL_ARG_SRC, memory(product.a, a.data)},
                                    {DNNL_ARG_WEIGHTS, memory(product.b, b.data)},
                                    {DNNL_ARG_DST, memory(product.c, c)}});
    stream.wait();
  } catch (const dnnl::error& error) {
    throw DeviceError("cpu: oneDNN's product of [" + std::to_string(m) + ", " + std::to_string(k) +
                      "] @ [" + std::to_string(k) + ", " + std::to_string(n) +
                      "] failed: " + error.what());
  }
}

// oneDNN generates code on first use, and all of a kind at once. A narrow and a wide product have
// a kind each.
void generate_code() {
  for (const std::int64_t size : {std::int64_t{16}, std::int64_t{320}}) {
    const auto count = static_cast<std::size_t>(size * size);
    const std::vector<float> zeros(count, 0.0f);
    std::vector<float> product(count);
    for (const bool transposed : {false, true}) {
      const Matrix matrix{zeros.data(), DType::kF32, transposed ? 1 : size, transposed ? size : 1};
      sgemm(matrix, matrix, size, size, size, product.data(), size, false);
    }
  }
  constexpr std::int64_t kSize = 64;
  const std::vector<float> zeros(std::size_t{kSize} * kSize, 0.0f);  // bf16 zeros too.
  std::vector<float> product(zeros.size());
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    if (!has_onednn_matmul(dtype)) continue;
    const Matrix matrix{zeros.data(), dtype, kSize, 1};
    matmul(matrix, matrix, kSize, kSize, kSize, product.data(), kSize, false);
  }
}

constinit ExitGate gate;

// exit() destroys the thread-local objects of its caller before it calls any handler. So where the
// main thread exits, the gate is shut before anything else ends, even if code is being generated
// just then. Where another thread exits, a handler shuts it: they run in the reverse order of
// registration, so it must be registered after what oneDNN destroys.
[[maybe_unused]] const bool main_thread_shuts_gate = [] {
  if (!is_main_thread()) return false;
  thread_local const GateShutter shutter{gate};
  return &shutter.gate == &gate;
}();

void generate_code_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    generate_code();
    std::atexit([] { gate.shut(); });
    pthread_atfork(nullptr, nullptr, [] { gate.forget_others(); });
  });
}

// A call into oneDNN, unless it is too late for one.
class Call {
 public:
  Call() : is_allowed_(gate.enter()) {
    if (!is_allowed_) return;
    try {
      generate_code_once();
    } catch (...) {
      gate.leave();
      throw;
    }
  }
  ~Call() {
    if (is_allowed_) gate.leave();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  [[nodiscard]] bool is_allowed() const { return is_allowed_; }

 private:
  const bool is_allowed_;
};

}  // namespace

void onednn_sgemm(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                  float* c, std::int64_t ldc, bool accumulate) {
  const Call call;
  if (!call.is_allowed()) return gemm_block(a, b, m, n, k, c, ldc, accumulate);
  sgemm(a, b, m, n, k, c, ldc, accumulate);
}

void onednn_matmul(const Matrix& a, const Matrix& b, std::int64_t m, std::int64_t n, std::int64_t k,
                   float* c, std::int64_t ldc, bool accumulate) {
  const Call call;
  if (!call.is_allowed()) return gemm_block(a, b, m, n, k, c, ldc, accumulate);
  matmul(a, b, m, n, k, c, ldc, accumulate);
}

namespace {
bool has_isa(dnnl::cpu_isa isa) {
  const auto needed = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & needed) == needed;
}
}  // namespace

bool has_onednn_matmul(DType dtype) {
  static const bool has_f32 = has_isa(dnnl::cpu_isa::avx512_core);
  static const bool has_bf16 = has_isa(dnnl::cpu_isa::avx512_core_bf16);
  return (dtype == DType::kF32 && has_f32) || (dtype == DType::kBF16 && has_bf16);
}

bool has_bf16_matrix_units() {
  static const bool has = has_isa(dnnl::cpu_isa::avx512_core_amx);
  return has;
}

}  // namespace metal_candle::backend::cpu
