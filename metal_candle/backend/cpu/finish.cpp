// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What follows a product, applied to a block of it: scale, bias, activation, residual, rounding.
#include "metal_candle/backend/cpu/product.h"
#include "metal_candle/core/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/finish.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"
#include "metal_candle/backend/cpu/workspace.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

struct Rows {
  const float* c;
  std::int64_t ldc;
  const float* bias;  // Null if there is none.
  std::int64_t rows, columns;
};

template <op::Activation kActivation>
HWY_INLINE VecF32 Activate(F32 d, VecF32 x) {
  if constexpr (kActivation == op::Activation::kRelu) {
    // Keeps NaN, as maximum does.
    return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x);
  } else if constexpr (kActivation == op::Activation::kGelu) {
    return Gelu(d, x);
  } else if constexpr (kActivation == op::Activation::kGeluTanh) {
    return GeluTanh(d, x);
  } else if constexpr (kActivation == op::Activation::kSilu) {
    return Silu(d, x);
  } else {
    return x;
  }
}

template <op::Activation kActivation, typename T>
HWY_ATTR void FinishRows(const Rows& in, float factor, const T* residual,
                         std::int64_t residual_stride, T* out, std::int64_t out_stride) {
  const F32 d;
  const VecF32 scale = hn::Set(d, factor);
  for (std::int64_t i = 0; i < in.rows; ++i) {
    const float* const c = in.c + i * in.ldc;
    const T* const r = residual ? residual + i * residual_stride : nullptr;
    T* const y = out + i * out_stride;
    for_each_vector(d, static_cast<std::size_t>(in.columns),
                    [&](std::size_t j, auto part) HWY_ATTR {
                      VecF32 v = hn::Mul(load(d, c + j, part), scale);
                      if (in.bias) v = hn::Add(v, load(d, in.bias + j, part));
                      v = Activate<kActivation>(d, v);
                      if (r) v = hn::Add(v, load(d, r + j, part));
                      store(v, d, y + j, part);
                    });
  }
}

template <typename T>
HWY_ATTR void FinishTyped(const Product& p, const Rows& in, std::int64_t row, std::int64_t column) {
  const T* const residual =
      p.residual.data ? static_cast<const T*>(p.residual.block(row, column).data) : nullptr;
  const std::int64_t stride = p.residual.row_stride;
  T* const out = static_cast<T*>(p.out) + row * p.row_length() + column;
  switch (p.activation) {
    case op::Activation::kNone:
      return FinishRows<op::Activation::kNone>(in, p.scale, residual, stride, out, p.row_length());
    case op::Activation::kRelu:
      return FinishRows<op::Activation::kRelu>(in, p.scale, residual, stride, out, p.row_length());
    case op::Activation::kGelu:
      return FinishRows<op::Activation::kGelu>(in, p.scale, residual, stride, out, p.row_length());
    case op::Activation::kGeluTanh:
      return FinishRows<op::Activation::kGeluTanh>(in, p.scale, residual, stride, out,
                                                   p.row_length());
    case op::Activation::kSilu:
      return FinishRows<op::Activation::kSilu>(in, p.scale, residual, stride, out, p.row_length());
  }
}

template <typename T>
const float* CopyBias(const RowVector& bias, std::int64_t column, std::int64_t columns, float* to) {
  const T* const from = static_cast<const T*>(bias.data) + column * bias.stride;
  for (std::int64_t j = 0; j < columns; ++j) to[j] = static_cast<float>(from[j * bias.stride]);
  return to;
}

void FinishBlock(const Product& p, std::int64_t row, std::int64_t column, std::int64_t rows,
                 std::int64_t columns, const float* c, std::int64_t ldc) {
  Workspace workspace;
  const float* bias = nullptr;
  if (p.bias.data) {
    float* const to = workspace.take<float>(columns);
    bias = p.bias.dtype == DType::kBF16  ? CopyBias<BFloat16>(p.bias, column, columns, to)
           : p.bias.dtype == DType::kF16 ? CopyBias<Float16>(p.bias, column, columns, to)
                                         : CopyBias<float>(p.bias, column, columns, to);
  }
  const Rows in{c, ldc, bias, rows, columns};
  switch (p.out_dtype) {
    case DType::kBF16:
      return FinishTyped<BFloat16>(p, in, row, column);
    case DType::kF16:
      return FinishTyped<Float16>(p, in, row, column);
    default:
      return FinishTyped<float>(p, in, row, column);
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {

HWY_EXPORT(FinishBlock);

void finish_block(const Product& product, std::int64_t row, std::int64_t column, std::int64_t rows,
                  std::int64_t columns, const float* c, std::int64_t ldc) {
  HWY_DYNAMIC_DISPATCH(FinishBlock)(product, row, column, rows, columns, c, ldc);
}

}  // namespace metal_candle::backend::cpu
#endif
