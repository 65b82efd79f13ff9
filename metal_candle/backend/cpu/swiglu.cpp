// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// SwiGluBackward: both gradients, for which everything is read once.
//
// Inputs: kContiguous, all of one dtype. An output may overwrite what it is the gradient of.
#include <algorithm>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/row_map.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/swiglu.cpp"
#include "hwy/foreach_target.h"
// foreach_target.h comes before what it includes again.
#include "hwy/highway.h"
#include "metal_candle/backend/cpu/float_io-inl.h"
#include "metal_candle/backend/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {
namespace {

// With s = sigmoid(gate): dgate = dy up s (1 + gate (1 - s)), dup = dy gate s. One of them may be
// null.
template <typename T>
void gradients(const T* gate, const T* up, const T* dy, T* dgate, T* dup, std::size_t count) {
  const F32 d;
  const VecF32 one = hn::Set(d, 1.0f);
  for_each_vector(d, count, [&](std::size_t i, auto part) HWY_ATTR {
    const VecF32 x = load(d, gate + i, part), u = load(d, up + i, part), g = load(d, dy + i, part);
    const VecF32 s = Sigmoid(d, x);
    const VecF32 slope = hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
    if (dgate) store(hn::Mul(hn::Mul(g, u), slope), d, dgate + i, part);
    if (dup) store(hn::Mul(g, hn::Mul(x, s)), d, dup + i, part);
  });
}

void run_swiglu_backward(DType dtype, std::int64_t count, const KernelArguments& arguments) {
  constexpr std::int64_t kGrain = 4096;
  dispatch_floating("swiglu_backward", dtype, [&](auto zero) HWY_ATTR {
    using T = decltype(zero);
    const auto at = [](const void* data, std::int64_t i) {
      return static_cast<const T*>(data) + i;
    };
    const auto to = [](void* data, std::int64_t i) {
      return data ? static_cast<T*>(data) + i : nullptr;
    };
    parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
      gradients(at(arguments.inputs[0], begin), at(arguments.inputs[1], begin),
                at(arguments.inputs[2], begin), to(arguments.outputs[0], begin),
                to(arguments.outputs[1], begin), static_cast<std::size_t>(end - begin));
    });
  });
}

}  // namespace
}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {
HWY_EXPORT(run_swiglu_backward);
}  // namespace

std::unique_ptr<Kernel> make_swiglu_backward(const KernelRequest& request) {
  const DType dtype = request.inputs[0].dtype;
  const std::int64_t count = num_elements(request.inputs[0].shape);
  return make_cpu_kernel([dtype, count](const KernelArguments& arguments) {
    HWY_DYNAMIC_DISPATCH(run_swiglu_backward)(dtype, count, arguments);
  });
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
