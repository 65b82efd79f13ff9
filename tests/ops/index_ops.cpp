// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Indexing by name.
#include "tests/ops/op_table.h"

namespace metal_candle::testing {

OpTable index_ops() {
  // A few numbers of size one are added to each element.
  constexpr Tolerance kSum{1e-6, 1e-6};
  OpTable ops;
  ops["take"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{c.has("axis") ? take(in[0], in[1], c.get<int>("axis")) : take(in[0], in[1])};
      },
      {}};
  ops["take_along_axis"] = {[](const FixtureCase& c, const Tensors& in) {
                              return Tensors{take_along_axis(in[0], in[1], c.get<int>("axis"))};
                            },
                            {}};
  ops["scatter_add"] = {[](const FixtureCase& c, const Tensors& in) {
                          return Tensors{scatter_add(in[0], in[1], in[2], c.get<int>("axis"))};
                        },
                        kSum};
  ops["scatter_add_along_axis"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{scatter_add_along_axis(in[0], in[1], in[2], c.get<int>("axis"))};
      },
      kSum};
  ops["slice_update"] = {[](const FixtureCase& c, const Tensors& in) {
                           return Tensors{slice_update(in[0], in[1], c.dims("starts"),
                                                       c.has("steps") ? c.dims("steps") : Dims{})};
                         },
                         {}};
  ops["dynamic_slice"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{dynamic_slice(in[0], in[1], c.dims("axes"), c.dims("lengths"))};
      },
      {}};
  ops["dynamic_slice_update"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{dynamic_slice_update(in[0], in[1], in[2], c.dims("axes"))};
      },
      {}};
  ops["one_hot"] = {[](const FixtureCase& c, const Tensors& in) {
                      return Tensors{one_hot(in[0], c.get<std::int64_t>("classes"),
                                             parse_dtype(c.get<std::string>("dtype")))};
                    },
                    {}};
  return ops;
}

}  // namespace metal_candle::testing
