// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Processes that end while work is queued, and environment variables, each in a process of its own.
#include <gtest/gtest.h>

#include <chrono>
#include <coroutine>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

using ::testing::ExitedWithCode;

class Exit : public ::testing::Test {
 protected:
  // A forked child would lack the threads of the parent.
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

// Each evaluation computes the products of those before it too. They are of a size for oneDNN; once
// the process exits our own kernel computes the rest, which takes long under ThreadSanitizer.
std::vector<Future> much_work() {
  std::vector<Future> futures;
  Tensor x = ones({128, 128});
  for (int i = 0; i < 30; ++i) {
    x = matmul(x, x) * (1.0 / 128);
    futures.push_back(eval_async(std::vector{x + static_cast<double>(i)}, i % 4));
  }
  return futures;
}

TEST_F(Exit, WithWorkInFlight) {
  EXPECT_EXIT(
      {
        (void)much_work();
        std::exit(0);
      },
      ExitedWithCode(0), "");
}

TEST_F(Exit, WithFuturesAlive) {
  EXPECT_EXIT(
      {
        // Destroyed after the queues have stopped.
        static const std::vector<Future> futures = much_work();
        std::exit(0);
      },
      ExitedWithCode(0), "");
}

TEST_F(Exit, WithStaticTensors) {
  EXPECT_EXIT(
      {
        static const Tensor evaluated = (ones({100}) + 1.0).eval();
        static const Tensor pending = evaluated * 2.0;
        static const Future future = (pending + 1.0).eval_async();
        std::exit(0);
      },
      ExitedWithCode(0), "");
}

TEST_F(Exit, WhileOtherThreadsEvaluate) {
  EXPECT_EXIT(
      {
        for (int i = 0; i < 3; ++i) {
          std::thread([] {
            try {
              for (;;) (void)sum(ones({1000}) * 2.0).eval_async();
            } catch (const std::exception&) {
              // Work is refused from some moment on: wait for the end.
              std::this_thread::sleep_for(std::chrono::seconds(30));
            }
          }).detach();
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        std::exit(0);
      },
      ExitedWithCode(0), "");
}

// oneDNN generates code during the first large product, for some tens of milliseconds, and destroys
// it when the process exits. Each child begins without that code.
class ExitDuringProducts : public Exit, public ::testing::WithParamInterface<int> {};

void multiply_for_ever(bool queued) {
  try {
    const Tensor x = ones({512, 512});
    for (;;) {
      Tensor y = matmul(x, x);
      if (queued) {
        (void)y.eval_async();
      } else {
        (void)y.eval();
      }
    }
  } catch (const std::exception&) {
    // Work is refused from some moment on: wait for the end.
    std::this_thread::sleep_for(std::chrono::seconds(30));
  }
}

TEST_P(ExitDuringProducts, Exits) {
  for (const bool queued : {false, true}) {
    EXPECT_EXIT(
        {
          std::thread([queued] { multiply_for_ever(queued); }).detach();
          std::this_thread::sleep_for(std::chrono::milliseconds(GetParam()));
          std::exit(0);
        },
        ExitedWithCode(0), "");
  }
}

INSTANTIATE_TEST_SUITE_P(AfterMilliseconds, ExitDuringProducts,
                         ::testing::Values(0, 1, 2, 5, 10, 20, 40, 80));

struct Detached {
  struct promise_type {
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() {}
  };
};
Detached await_and_forget(Future future) { co_await future; }

TEST_F(Exit, WithCoroutinesSuspended) {
  EXPECT_EXIT(
      {
        for (const Future& future : much_work()) await_and_forget(future);
        std::exit(0);
      },
      ExitedWithCode(0), "");
}

TEST_F(Exit, WritesTheTraceThatTheEnvironmentAsksFor) {
  const std::string path =
      (std::filesystem::path(::testing::TempDir()) / "metal_candle_exit_trace.json").string();
  std::filesystem::remove(path);
  EXPECT_EXIT(
      {
        setenv("METAL_CANDLE_TRACE", path.c_str(), 1);
        (void)cumsum(ones({10}), 0).to_vector<float>();
        std::exit(0);
      },
      ExitedWithCode(0), "");
  std::ifstream file(path);
  ASSERT_TRUE(file.good());
  EXPECT_GE(nlohmann::json::parse(file).at("traceEvents").size(), 1u);
  std::filesystem::remove(path);
}

TEST_F(Exit, TheModeOfTheEnvironment) {
  EXPECT_EXIT(
      {
        setenv("METAL_CANDLE_MODE", "eager", 1);
        std::exit((ones({10}) + 1.0).is_evaluated() ? 0 : 1);
      },
      ExitedWithCode(0), "");
  EXPECT_EXIT(
      {
        setenv("METAL_CANDLE_MODE", "soon", 1);
        try {
          (void)(ones({10}) + 1.0).eval();
        } catch (const std::exception& error) {
          std::fprintf(stderr, "%s\n", error.what());
          std::exit(3);
        }
        std::exit(0);
      },
      ExitedWithCode(3), "soon");
}

}  // namespace
}  // namespace metal_candle
