// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reductions, running reductions and sorts by name.
#include "tests/ops/op_table.h"

namespace metal_candle::testing {
namespace {

using Reduction = Tensor (*)(const Tensor&, const AxesArgument&, bool);
using Spread = Tensor (*)(const Tensor&, const AxesArgument&, bool, int);
using Running = Tensor (*)(const Tensor&, int, bool);

AxesArgument axes_of(const FixtureCase& c) {
  return c.has("axes") ? AxesArgument(c.dims("axes")) : AxesArgument();
}

// Up to a thousand numbers of size one, each rounded: a few units in the last place of 30.
constexpr Tolerance kSum{1e-6, 8e-6};
constexpr Tolerance kExact{};

Op reduction(Reduction fn, Tolerance tolerance) {
  return {[fn](const FixtureCase& c, const Tensors& in) {
            return Tensors{fn(in[0], axes_of(c), c.get<bool>("keepdims"))};
          },
          tolerance};
}
Op spread(Spread fn) {
  return {[fn](const FixtureCase& c, const Tensors& in) {
            return Tensors{fn(in[0], axes_of(c), c.get<bool>("keepdims"), c.get<int>("ddof", 0))};
          },
          {2e-6, 2e-6}};
}
Op running(Running fn, Tolerance tolerance) {
  return {[fn](const FixtureCase& c, const Tensors& in) {
            return Tensors{fn(in[0], c.get<int>("axis"), c.get<bool>("reverse"))};
          },
          tolerance};
}

Op arg_reduction(bool is_max) {
  return {[is_max](const FixtureCase& c, const Tensors& in) {
            if (!c.has("axis")) return Tensors{is_max ? argmax(in[0]) : argmin(in[0])};
            const auto axis = c.get<int>("axis");
            const auto keepdims = c.get<bool>("keepdims");
            return Tensors{is_max ? argmax(in[0], axis, keepdims) : argmin(in[0], axis, keepdims)};
          },
          kExact};
}

}  // namespace

OpTable reduce_ops() {
  OpTable ops{{"sum", reduction(sum, kSum)},
              {"prod", reduction(prod, {4e-5, 0})},
              {"max", reduction(max, kExact)},
              {"min", reduction(min, kExact)},
              {"any", reduction(any, kExact)},
              {"all", reduction(all, kExact)},
              {"mean", reduction(mean, {1e-6, 1e-6})},
              {"logsumexp", reduction(logsumexp, {1e-6, 1e-6})},
              {"norm", reduction(norm, {2e-6, 0})},
              {"variance", spread(variance)},
              {"std_dev", spread(std_dev)},
              {"argmax", arg_reduction(true)},
              {"argmin", arg_reduction(false)},
              {"cumsum", running(cumsum, kSum)},
              {"cumprod", running(cumprod, {2e-6, 0})},
              {"cummax", running(cummax, kExact)},
              {"cummin", running(cummin, kExact)}};
  ops["sort"] = {[](const FixtureCase& c, const Tensors& in) {
                   return Tensors{sort(in[0], c.get<int>("axis"), c.get<bool>("descending"))};
                 },
                 kExact};
  ops["argsort"] = {[](const FixtureCase& c, const Tensors& in) {
                      return Tensors{argsort(in[0], c.get<int>("axis"), c.get<bool>("descending"))};
                    },
                    kExact};
  ops["topk"] = {[](const FixtureCase& c, const Tensors& in) {
                   const TopK top = topk(in[0], c.get<std::int64_t>("k"), c.get<int>("axis"));
                   return Tensors{top.values, top.indices};
                 },
                 kExact};
  return ops;
}

}  // namespace metal_candle::testing
