// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rearrangements and creation by name. All exact, but for linspace().
#include "tests/ops/op_table.h"

namespace metal_candle::testing {
namespace {

Op exact(OpFunction call) { return {std::move(call), {}}; }

/// An exact operation on one tensor.
Op on_one(std::function<Tensor(const FixtureCase&, const Tensor&)> fn) {
  return exact([fn = std::move(fn)](const FixtureCase& c, const Tensors& in) {
    return Tensors{fn(c, in[0])};
  });
}

DType dtype_of_case(const FixtureCase& c) { return parse_dtype(c.get<std::string>("dtype")); }

OpTable rearrangements() {
  OpTable ops;
  ops["reshape"] = on_one([](auto& c, auto& x) { return reshape(x, c.dims("shape")); });
  ops["flatten"] = on_one([](auto& c, auto& x) {
    return flatten(x, c.template get<int>("first"), c.template get<int>("last"));
  });
  ops["transpose"] = on_one(
      [](auto& c, auto& x) { return c.has("axes") ? transpose(x, c.dims("axes")) : transpose(x); });
  ops["swapaxes"] = on_one([](auto& c, auto& x) {
    return swapaxes(x, c.template get<int>("a"), c.template get<int>("b"));
  });
  ops["moveaxis"] = on_one([](auto& c, auto& x) {
    return moveaxis(x, c.template get<int>("from"), c.template get<int>("to"));
  });
  ops["squeeze"] = on_one(
      [](auto& c, auto& x) { return c.has("axes") ? squeeze(x, c.dims("axes")) : squeeze(x); });
  ops["expand_dims"] = on_one([](auto& c, auto& x) { return expand_dims(x, c.dims("axes")); });
  ops["broadcast_to"] = on_one([](auto& c, auto& x) { return broadcast_to(x, c.dims("shape")); });
  ops["flip"] =
      on_one([](auto& c, auto& x) { return c.has("axes") ? flip(x, c.dims("axes")) : flip(x); });
  ops["slice"] = on_one([](auto& c, auto& x) {
    return slice(x, c.dims("starts"), c.dims("stops"), c.dims("steps"));
  });
  ops["index"] = on_one([](auto& c, auto& x) { return x[c.template get<std::int64_t>("index")]; });
  ops["pad"] = on_one([](auto& c, auto& x) {
    const auto& value = c.attributes.at("value");
    return value.is_number_integer()
               ? pad(x, c.dims("low"), c.dims("high"), value.template get<int>())
               : pad(x, c.dims("low"), c.dims("high"), value.template get<double>());
  });
  ops["tile"] = on_one([](auto& c, auto& x) { return tile(x, c.dims("counts")); });
  ops["repeat"] = on_one([](auto& c, auto& x) {
    return repeat(x, c.template get<std::int64_t>("count"), c.template get<int>("axis"));
  });
  ops["roll"] = on_one([](auto& c, auto& x) {
    return roll(x, c.template get<std::int64_t>("shift"), c.template get<int>("axis"));
  });
  ops["tril"] =
      on_one([](auto& c, auto& x) { return tril(x, c.template get<std::int64_t>("diagonal")); });
  ops["triu"] =
      on_one([](auto& c, auto& x) { return triu(x, c.template get<std::int64_t>("diagonal")); });
  return ops;
}

OpTable joins() {
  OpTable ops;
  ops["concatenate"] = exact([](const FixtureCase& c, const Tensors& in) {
    return Tensors{concatenate(in, c.get<int>("axis"))};
  });
  ops["stack"] = exact([](const FixtureCase& c, const Tensors& in) {
    return Tensors{stack(in, c.get<int>("axis"))};
  });
  ops["split"] = exact([](const FixtureCase& c, const Tensors& in) {
    return split(in[0], c.get<std::int64_t>("parts"), c.get<int>("axis"));
  });
  ops["split_at"] = exact([](const FixtureCase& c, const Tensors& in) {
    return split_at(in[0], c.get<std::vector<std::int64_t>>("positions"), c.get<int>("axis"));
  });
  return ops;
}

OpTable creation() {
  OpTable ops;
  ops["zeros"] = exact([](const FixtureCase& c, const Tensors&) {
    return Tensors{zeros(c.dims("shape"), dtype_of_case(c))};
  });
  ops["ones"] = exact([](const FixtureCase& c, const Tensors&) {
    return Tensors{ones(c.dims("shape"), dtype_of_case(c))};
  });
  ops["full"] = exact([](const FixtureCase& c, const Tensors&) {
    return Tensors{full(c.dims("shape"), c.get<double>("value"), dtype_of_case(c))};
  });
  ops["ones_like"] = on_one([](auto& c, auto& x) { return ones_like(x, dtype_of_case(c)); });
  ops["eye"] = exact([](const FixtureCase& c, const Tensors&) {
    return Tensors{eye(c.get<std::int64_t>("rows"), c.get<std::int64_t>("columns"),
                       c.get<std::int64_t>("diagonal"), dtype_of_case(c))};
  });
  ops["arange"] = exact([](const FixtureCase& c, const Tensors&) {
    if (c.attributes.at("start").is_number_integer()) {
      return Tensors{arange(c.get<std::int64_t>("start"), c.get<std::int64_t>("stop"),
                            c.get<std::int64_t>("step"), dtype_of_case(c))};
    }
    return Tensors{arange(c.get<double>("start"), c.get<double>("stop"), c.get<double>("step"),
                          dtype_of_case(c))};
  });
  ops["linspace"] = {
      [](const FixtureCase& c, const Tensors&) {
        return Tensors{linspace(c.get<double>("start"), c.get<double>("stop"),
                                c.get<std::int64_t>("count"), c.get<bool>("endpoint"))};
      },
      {2e-7, 2e-7}};
  return ops;
}

}  // namespace

OpTable layout_ops() {
  OpTable ops = rearrangements();
  ops.merge(joins());
  ops.merge(creation());
  return ops;
}

}  // namespace metal_candle::testing
