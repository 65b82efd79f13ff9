// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random numbers by name. Exact, but for those made with log() and erfinv().
#include "tests/ops/op_table.h"

namespace metal_candle::testing {

OpTable random_ops() {
  const auto dtype = [](const FixtureCase& c) { return parse_dtype(c.get<std::string>("dtype")); };
  OpTable ops;
  ops["key"] = {[](const FixtureCase& c, const Tensors&) {
                  return Tensors{random::key(c.get<std::uint64_t>("seed"))};
                },
                {}};
  ops["bits"] = {[](const FixtureCase& c, const Tensors& in) {
                   return Tensors{random::bits(c.dims("shape"), in[0])};
                 },
                 {}};
  ops["uniform"] = {[dtype](const FixtureCase& c, const Tensors& in) {
                      return Tensors{random::uniform(c.dims("shape"), in[0], c.get<double>("low"),
                                                     c.get<double>("high"), dtype(c))};
                    },
                    {1e-7, 3e-7}};
  ops["normal"] = {[dtype](const FixtureCase& c, const Tensors& in) {
                     return Tensors{random::normal(c.dims("shape"), in[0], dtype(c))};
                   },
                   {2e-6, 0}};
  ops["bernoulli"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{random::bernoulli(c.get<double>("p"), c.dims("shape"), in[0])};
      },
      {}};
  ops["randint"] = {
      [dtype](const FixtureCase& c, const Tensors& in) {
        return Tensors{random::randint(c.get<std::int64_t>("low"), c.get<std::int64_t>("high"),
                                       c.dims("shape"), in[0], dtype(c))};
      },
      {}};
  ops["permutation"] = {[](const FixtureCase& c, const Tensors& in) {
                          return Tensors{random::permutation(c.get<std::int64_t>("count"), in[0])};
                        },
                        {}};
  ops["dropout"] = {[](const FixtureCase& c, const Tensors& in) {
                      return Tensors{random::dropout(in[0], c.get<double>("rate"), in[1])};
                    },
                    {2e-7, 0}};
  ops["categorical"] = {[](const FixtureCase& c, const Tensors& in) {
                          return Tensors{random::categorical(in[0], in[1], c.get<int>("axis"))};
                        },
                        {}};
  return ops;
}

}  // namespace metal_candle::testing
