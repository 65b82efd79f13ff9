// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Take and TakeAlongAxis. Inputs: kContiguous, all of them; never in place.
#include "metal_candle/backend/cpu/index.h"

#include <cstring>
#include <string>

#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/row_map.h"
#include "metal_candle/backend/strided.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

struct TakePlan {
  AxisView x;
  std::int64_t count;  // Indices.
  Indices indices;
  std::size_t element;  // Bytes.
};

// Slices longer than an element: whole rows, as in a table of embeddings.
void take_rows(const TakePlan& plan, const KernelArguments& arguments) {
  const auto* x = static_cast<const std::byte*>(arguments.inputs[0]);
  auto* out = static_cast<std::byte*>(arguments.outputs[0]);
  const auto bytes = static_cast<std::int64_t>(plan.element) * plan.x.inner;
  // Copying moves several bytes in the time that arithmetic takes for an element.
  parallel_for(
      plan.x.outer * plan.count, row_grain(bytes / 4), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t index = plan.indices.read(arguments.inputs[1], i % plan.count);
          const std::int64_t row = i / plan.count * plan.x.length + index;
          std::memcpy(out + i * bytes, x + row * bytes, static_cast<std::size_t>(bytes));
        }
      });
}

template <typename Element>
void take_elements(const TakePlan& plan, const KernelArguments& arguments) {
  const auto* x = static_cast<const Element*>(arguments.inputs[0]);
  auto* out = static_cast<Element*>(arguments.outputs[0]);
  parallel_for(plan.x.outer * plan.count, row_grain(4), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t index = plan.indices.read(arguments.inputs[1], i % plan.count);
      out[i] = x[i / plan.count * plan.x.length + index];
    }
  });
}

template <typename Element>
void take_along_axis(const TakePlan& plan, const KernelArguments& arguments) {
  const auto* x = static_cast<const Element*>(arguments.inputs[0]);
  auto* out = static_cast<Element*>(arguments.outputs[0]);
  const std::int64_t inner = plan.x.inner;
  parallel_for(plan.x.outer * plan.count, row_grain(4 * inner),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t row = begin; row < end; ++row) {
                   const Element* from = x + row / plan.count * plan.x.length * inner;
                   for (std::int64_t c = 0; c < inner; ++c) {
                     const std::int64_t i = row * inner + c;
                     out[i] = from[plan.indices.read(arguments.inputs[1], i) * inner + c];
                   }
                 }
               });
}

std::unique_ptr<Kernel> make_take(const KernelRequest& request, int axis) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& indices = request.inputs[1];
  const AxisView view(x.shape, axis);
  const TakePlan plan{view, num_elements(indices.shape),
                      Indices("take", indices.dtype, view.length), size_of(x.dtype)};
  if (view.inner != 1) {
    return make_cpu_kernel(
        [plan](const KernelArguments& arguments) { take_rows(plan, arguments); });
  }
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    dispatch_element_size(plan.element,
                          [&](auto zero) { take_elements<decltype(zero)>(plan, arguments); });
  });
}

std::unique_ptr<Kernel> make_take_along_axis(const KernelRequest& request, int axis) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& indices = request.inputs[1];
  const AxisView view(x.shape, axis);
  const TakePlan plan{view, indices.shape[axis],
                      Indices("take_along_axis", indices.dtype, view.length), size_of(x.dtype)};
  return make_cpu_kernel([plan](const KernelArguments& arguments) {
    dispatch_element_size(plan.element,
                          [&](auto zero) { take_along_axis<decltype(zero)>(plan, arguments); });
  });
}

}  // namespace

void Indices::throw_out_of_range(std::int64_t index) const {
  throw DeviceError(std::string(op_) + ": index " + std::to_string(index) +
                    " is out of range for an axis of length " + std::to_string(length_));
}

std::unique_ptr<Kernel> make_index(const KernelRequest& request) {
  const Operation& operation = request.operation;
  if (const auto* o = std::get_if<op::Take>(&operation)) return make_take(request, o->axis);
  if (const auto* o = std::get_if<op::TakeAlongAxis>(&operation)) {
    return make_take_along_axis(request, o->axis);
  }
  if (std::holds_alternative<op::ScatterAdd>(operation) ||
      std::holds_alternative<op::ScatterAddAlongAxis>(operation)) {
    return make_scatter(request);
  }
  return make_slice_update(request);
}

}  // namespace metal_candle::backend::cpu
