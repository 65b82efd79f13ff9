// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A user's own optimisation pass: log(exp(x)) becomes x. Graphs built by generic code are full of
// such things; a pass removes them before anything runs.
#include <cstdio>
#include <memory>
#include <string>

#include "metal_candle/metal_candle.h"

namespace mc = metal_candle;

namespace {

std::unique_ptr<mc::FusionPass> make_log_exp_pass() {
  const mc::pattern::Var x;
  return std::make_unique<mc::RewritePass>(
      "log_exp", std::vector<mc::RewriteRule>{
                     {.from = log(exp(mc::pattern::Pattern(x))),
                      .when = nullptr,
                      .to = [=](mc::ComputationGraph&, const mc::pattern::Match& match) {
                        return match[x];
                      }}});
}

}  // namespace

int main() {
  mc::register_pass("log_exp", make_log_exp_pass);
  const mc::Tensor x = mc::random::normal({4, 4}, mc::random::key(1));
  mc::eval(x);
  const auto build = [&] { return 2.0f * mc::log(mc::exp(x)) + 1.0f; };

  const std::string with = mc::plan_evaluation({build()}).optimized.to_text();
  std::printf("with the pass:\n%s", with.c_str());
  const mc::ScopedPasses scope(mc::current_passes().without("log_exp"));
  const std::string without = mc::plan_evaluation({build()}).optimized.to_text();
  std::printf("without it:\n%s", without.c_str());

  const bool removed =
      with.find("log") == std::string::npos && without.find("log") != std::string::npos;
  const bool right = mc::allclose(build(), 2.0f * x + 1.0f, 1e-4, 1e-4).item<bool>();
  std::printf("%s\n", removed && right ? "ok" : "FAILED");
  return removed && right ? 0 : 1;
}
