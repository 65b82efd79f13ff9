// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cuda_matmul.h. cuBLASLt's matrices are column-major, ours are row-major, and a row-major
// matrix is the transpose of a column-major one in the same memory: so this computes out^T = b^T
// a^T.
#include "metal_candle/backend/cuda/cuda_matmul.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>

#include "metal_candle/backend/cuda/cuda_device.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cuda {
namespace {

// More than any algorithm asks for on Hopper, where the library's own advice is 32 MiB.
constexpr std::size_t kMaxWorkspace = std::size_t{32} << 20;

// What fast algorithms need; operands in the middle of a tensor may have less.
constexpr std::size_t kAlignment = 16;

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

// What lies in memory with rows of `rows` x `columns`, as the column-major matrix whose transpose
// it is, or which it is.
struct Orientation {
  bool transposed;  // The operand is the transpose of the column-major matrix in memory.
  std::int64_t rows, columns, leading;
};

// The operand X^T (columns x rows) of a product, where X is row-major with these strides.
bool orient(const gpu::MatmulDescription::Matrix& matrix, std::int64_t rows, std::int64_t columns,
            Orientation* out) {
  // Of an axis of length 1 the stride does not matter.
  const bool row_major =
      (matrix.column_stride == 1 || columns == 1) && (matrix.row_stride >= columns || rows == 1);
  if (row_major) {
    *out = {false, columns, rows, rows == 1 ? columns : matrix.row_stride};
    return true;
  }
  const bool column_major =
      (matrix.row_stride == 1 || rows == 1) && (matrix.column_stride >= rows || columns == 1);
  if (column_major) *out = {true, rows, columns, columns == 1 ? rows : matrix.column_stride};
  return column_major;
}

bool epilogue(const gpu::MatmulDescription& d, cublasLtEpilogue_t* out) {
  switch (d.activation) {
    case op::Activation::kNone:
      *out = d.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
      return true;
    case op::Activation::kRelu:
      *out = d.has_bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
      return true;
    case op::Activation::kGeluTanh:
      *out = d.has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
      return true;
    default:
      return false;
  }
}

template <typename T>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t which, const T& value) {
  check(cublas_lt().cublasLtMatmulDescSetAttribute(operation, which, &value, sizeof(value)),
        "cublasLtMatmulDescSetAttribute");
}

cublasLtMatrixLayout_t make_layout(DType dtype, const Orientation& matrix, std::int64_t batch,
                                   std::int64_t batch_stride) {
  const CublasLt& library = cublas_lt();
  cublasLtMatrixLayout_t layout = nullptr;
  check(library.cublasLtMatrixLayoutCreate(
            &layout, data_type(dtype), static_cast<std::uint64_t>(matrix.rows),
            static_cast<std::uint64_t>(matrix.columns), matrix.leading),
        "cublasLtMatrixLayoutCreate");
  if (batch > 1) {
    const auto count = static_cast<std::int32_t>(batch);
    check(library.cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                   &count, sizeof(count)),
          "cublasLtMatrixLayoutSetAttribute");
    check(library.cublasLtMatrixLayoutSetAttribute(layout,
                                                   CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                   &batch_stride, sizeof(batch_stride)),
          "cublasLtMatrixLayoutSetAttribute");
  }
  return layout;
}

}  // namespace

CudaMatmul::CudaMatmul(CudaDevice& device, const gpu::MatmulDescription& description)
    : device_(device), description_(description) {}

std::shared_ptr<const CudaMatmul> CudaMatmul::make(CudaDevice& device,
                                                   const gpu::MatmulDescription& d) {
  const CublasLt& library = cublas_lt();
  device.enter();
  Orientation a;
  Orientation b;
  cublasLtEpilogue_t kind = CUBLASLT_EPILOGUE_DEFAULT;
  if (!orient(d.a, d.m, d.k, &a) || !orient(d.b, d.k, d.n, &b) || !epilogue(d, &kind)) {
    return nullptr;
  }
  // What the library does not multiply in packets of 16 bytes, it rounds before the epilogue.
  const auto packet = static_cast<std::int64_t>(kAlignment / size_of(d.operands));
  const bool in_packets =
      a.leading % packet == 0 && b.leading % packet == 0 && d.out_row_stride % packet == 0;
  if (kind != CUBLASLT_EPILOGUE_DEFAULT && size_of(d.operands) == 2 && !in_packets) return nullptr;
  // Whether the library has it is known when it is asked: of a plain one it is known before.
  if (kind != CUBLASLT_EPILOGUE_DEFAULT && d.seldom) return nullptr;
  const std::shared_ptr<CudaMatmul> product(new CudaMatmul(device, d));
  // b^T [n, k] is the first factor, a^T [k, m] the second.
  product->a_ = make_layout(d.operands, b, d.batch, d.b.batch_stride);
  product->b_ = make_layout(d.operands, a, d.batch, d.a.batch_stride);
  product->out_ =
      make_layout(d.out, {false, d.n, d.m, d.out_row_stride}, d.batch, d.out_batch_stride);
  check(library.cublasLtMatmulDescCreate(&product->operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  const auto operation_of = [](const Orientation& matrix) {
    return matrix.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  set(product->operation_, CUBLASLT_MATMUL_DESC_TRANSA, operation_of(b));
  set(product->operation_, CUBLASLT_MATMUL_DESC_TRANSB, operation_of(a));
  set(product->operation_, CUBLASLT_MATMUL_DESC_EPILOGUE, kind);
  if (d.has_bias) {
    set(product->operation_, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(d.out));
  }

  if (d.seldom) return product;
  product->wanted_ = device.tuning().get(
      Tunable::kGpuProductAlgorithm,
      [&] {
        const std::int64_t form = (d.a.row_stride == 1 ? 1 : 0) + (d.b.row_stride == 1 ? 2 : 0);
        return ShapeClass{d.operands, {d.m, d.n, d.k}, form + 4 * d.batch};
      },
      0);
  const auto aligned = product->choose(kAlignment, kMaxWorkspace);
  if (!aligned) return nullptr;
  product->scratch_bytes_ = aligned->workspaceSize;
  std::call_once(product->aligned_.made, [&] { product->aligned_.algorithm = aligned->algo; });
  return product;
}

// The library's best guess for operands that begin at multiples of `alignment` bytes, or that of
// its next ones which tuning chose.
std::optional<cublasLtMatmulHeuristicResult_t> CudaMatmul::choose(
    std::size_t alignment, std::size_t most_workspace) const {
  const CublasLt& library = cublas_lt();
  cublasLtMatmulPreference_t preference = nullptr;
  check(library.cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
    check(library.cublasLtMatmulPreferenceSetAttribute(preference, which, &value, sizeof(value)),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, most_workspace);
  // Parts of a sum are added up in f32: none is rounded to the output's dtype before.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto which :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    prefer(which, static_cast<std::uint32_t>(alignment));
  }
  constexpr int kMostAlgorithms = 8;
  std::array<cublasLtMatmulHeuristicResult_t, kMostAlgorithms> found{};
  const int asked = static_cast<int>(std::clamp<std::int64_t>(wanted_, 0, kMostAlgorithms - 1)) + 1;
  int count = 0;
  const cublasStatus_t status = library.cublasLtMatmulAlgoGetHeuristic(
      device_.cublas(), operation_, a_, b_, out_, out_, preference, asked, found.data(), &count);
  library.cublasLtMatmulPreferenceDestroy(preference);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0)) {
    return {};
  }
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  return found[static_cast<std::size_t>(std::min(asked, count) - 1)];
}

CudaMatmul::~CudaMatmul() {
  const CublasLt& library = cublas_lt();
  if (a_ != nullptr) library.cublasLtMatrixLayoutDestroy(a_);
  if (b_ != nullptr) library.cublasLtMatrixLayoutDestroy(b_);
  if (out_ != nullptr) library.cublasLtMatrixLayoutDestroy(out_);
  if (operation_ != nullptr) library.cublasLtMatmulDescDestroy(operation_);
}

const cublasLtMatmulAlgo_t& CudaMatmul::algorithm(const gpu::MatmulOperands& operands) const {
  const auto misaligned = [](const void* address) {
    return reinterpret_cast<std::uintptr_t>(address) % kAlignment != 0;
  };
  const bool unaligned = misaligned(operands.a) || misaligned(operands.b) ||
                         misaligned(operands.c) || misaligned(operands.out);
  Choice& choice = unaligned ? unaligned_ : aligned_;
  std::call_once(choice.made, [&] {
    device_.enter();
    const std::size_t alignment = unaligned ? size_of(description_.operands) : kAlignment;
    const auto found = choose(alignment, scratch_bytes_);
    if (!found) {
      throw DeviceError(
          fmt::format("cuda: cuBLASLt has no algorithm for {} at multiples of {} "
                      "bytes with a workspace of {}",
                      describe(), alignment, scratch_bytes_));
    }
    choice.algorithm = found->algo;
  });
  return choice.algorithm;
}

std::string CudaMatmul::describe() const {
  return fmt::format("{} times [{}, {}] and [{}, {}], {}", description_.batch, description_.m,
                     description_.k, description_.k, description_.n,
                     metal_candle::name(description_.operands));
}

void CudaMatmul::run(const gpu::MatmulOperands& operands, CUstream stream) const {
  const CublasLt& library = cublas_lt();
  cublasLtMatmulDesc_t operation = operation_;
  if (description_.has_bias) {
    // The bias's address is part of the operation, which threads share: each has a copy.
    thread_local cublasLtMatmulDescOpaque_t copy;
    copy = *reinterpret_cast<const cublasLtMatmulDescOpaque_t*>(operation_);
    operation = &copy;
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  }
  const cublasStatus_t status =
      library.cublasLtMatmul(device_.cublas(), operation, &description_.alpha, operands.b, a_,
                             operands.a, b_, &description_.beta, operands.c, out_, operands.out,
                             out_, &algorithm(operands), operands.scratch, scratch_bytes_, stream);
  if (status == CUBLAS_STATUS_SUCCESS) return;
  check(status, fmt::format("cublasLtMatmul of {}", describe()).c_str());
}

// Everything that a product is made of. Floats by their bits: NaN compares with nothing.
ProductCache::Key ProductCache::key_of(CudaDevice& device, const gpu::MatmulDescription& d) {
  const auto number = [](auto value) { return static_cast<std::int64_t>(value); };
  return {number(device.tuning().id()),
          d.batch,
          d.m,
          d.n,
          d.k,
          d.a.row_stride,
          d.a.column_stride,
          d.a.batch_stride,
          d.b.row_stride,
          d.b.column_stride,
          d.b.batch_stride,
          d.out_row_stride,
          d.out_batch_stride,
          number(d.operands),
          number(d.out),
          number(std::bit_cast<std::int32_t>(d.alpha)),
          number(std::bit_cast<std::int32_t>(d.beta)),
          number(d.has_bias),
          number(d.activation),
          number(d.seldom)};
}

std::shared_ptr<const CudaMatmul> ProductCache::find_or_make(
    CudaDevice& device, const gpu::MatmulDescription& description) {
  const Key key = key_of(device, description);
  {
    const std::lock_guard lock(mutex_);
    const auto it = products_.find(key);
    if (it != products_.end()) return it->second;
  }
  // The library takes its time: others need not wait for it.
  std::shared_ptr<const CudaMatmul> product = CudaMatmul::make(device, description);
  const std::lock_guard lock(mutex_);
  if (products_.size() >= kCapacity) products_.clear();
  return products_.try_emplace(key, std::move(product)).first->second;
}

std::shared_ptr<const gpu::Matmul> CudaDevice::make_matmul(
    const gpu::MatmulDescription& description) {
  return products_.find_or_make(*this, description);
}

}  // namespace metal_candle::backend::cuda
