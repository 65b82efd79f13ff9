// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Asynchronous evaluation: two independent products on two queues, a third that depends on both,
// and a coroutine that resumes when that one is there.
#include <cmath>
#include <coroutine>
#include <cstdio>
#include <exception>
#include <future>

#include "metal_candle/metal_candle.h"

namespace mc = metal_candle;

namespace {

// A coroutine that reports to a std::future: the least that co_await needs.
struct Task {
  struct promise_type {
    std::promise<float> result;
    Task get_return_object() { return {result.get_future()}; }
    static std::suspend_never initial_suspend() { return {}; }
    static std::suspend_never final_suspend() noexcept { return {}; }
    void return_value(float value) { result.set_value(value); }
    void unhandled_exception() { result.set_exception(std::current_exception()); }
  };
  std::future<float> result;
};

Task sum_when_ready(mc::Future future) {
  const std::vector<mc::Tensor> outputs = co_await future;  // Does not block this thread.
  co_return mc::sum(outputs[0]).item<float>();
}

}  // namespace

int main() {
  const mc::Tensor keys = mc::random::split(mc::random::key(7), 2);
  const mc::Tensor x = mc::random::normal({512, 512}, keys[0]);
  const mc::Tensor y = mc::random::normal({512, 512}, keys[1]);
  mc::eval(x, y);

  const mc::Tensor a = mc::matmul(x, y);
  const mc::Tensor b = mc::matmul(y, x);
  const mc::Future first = mc::eval_async({a}, /*queue=*/0);   // Returns at once;
  const mc::Future second = mc::eval_async({b}, /*queue=*/1);  // these two overlap.
  const mc::Tensor c = a - b;  // What is still being computed may be used already.
  Task task = sum_when_ready(mc::eval_async({c}));

  first.wait();
  second.wait();
  const float sum = task.result.get();
  const float expected = mc::sum(mc::matmul(x, y) - mc::matmul(y, x)).item<float>();
  std::printf("sum %.3f, again without queues %.3f\n", static_cast<double>(sum),
              static_cast<double>(expected));
  std::printf("%s", mc::counters().to_string().c_str());
  return std::abs(sum - expected) <= 0.05f + 1e-3f * std::abs(expected) ? 0 : 1;
}
