// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See fibres.h.
#include "tests/gpu_sim/fibres.h"

#include <fmt/format.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace metal_candle::gpu_sim {
namespace {

constexpr std::uint32_t kWarp = 32;
constexpr std::size_t kStackBytes = std::size_t{256} << 10;

std::map<std::string, HostKernel, std::less<>>& kernels() {
  static std::map<std::string, HostKernel, std::less<>> all;
  return all;
}

struct Copy {
  void* to;
  const void* from;
  std::uint32_t bytes;
  std::uint32_t commit;  // The number of the commit that it belongs to.
};

enum class Waiting { kNothing, kForGroup, kForWarp, kDone };

struct Fibre {
  std::unique_ptr<char[]> stack;
  ucontext_t context{};
  Waiting waiting = Waiting::kNothing;
  void* given = nullptr;  // To the warp, and what the warp does with it.
  WarpWork work = nullptr;
  std::vector<Copy> copies;  // That it did not wait for yet.
  std::uint32_t commits = 0;
  Thread thread{};
};

// The group that runs on this thread of the host.
struct Group {
  std::vector<Fibre> fibres;
  ucontext_t scheduler{};
  Fibre* current = nullptr;
  const HostKernel* kernel = nullptr;
  const void* arguments = nullptr;
  std::vector<char> memory;
  std::exception_ptr error;
};
thread_local Group group;

void enter() {
  try {
    group.kernel->body(group.arguments, group.memory.data(), group.current->thread);
  } catch (...) {
    group.error = std::current_exception();
  }
  group.current->waiting = Waiting::kDone;
  swapcontext(&group.current->context, &group.scheduler);
}

void wait(Waiting what) {
  Fibre* self = group.current;
  self->waiting = what;
  swapcontext(&self->context, &group.scheduler);
}

// Lets a warp or the whole group go on if all of it has arrived. Returns whether anyone may run.
bool release() {
  bool released = false;
  const std::size_t count = group.fibres.size();
  std::size_t at_group = 0;
  for (std::size_t first = 0; first < count; first += kWarp) {
    std::size_t at_warp = 0;
    for (std::size_t i = first; i < first + kWarp; ++i) {
      at_warp += group.fibres[i].waiting == Waiting::kForWarp;
      at_group += group.fibres[i].waiting == Waiting::kForGroup;
    }
    if (at_warp < kWarp) continue;
    void* given[kWarp];
    for (std::size_t i = 0; i < kWarp; ++i) given[i] = group.fibres[first + i].given;
    group.fibres[first].work(given);
    for (std::size_t i = first; i < first + kWarp; ++i) {
      group.fibres[i].waiting = Waiting::kNothing;
    }
    released = true;
  }
  if (at_group == count) {
    for (Fibre& fibre : group.fibres) fibre.waiting = Waiting::kNothing;
    released = true;
  }
  return released;
}

void run_group() {
  for (Fibre& fibre : group.fibres) {
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = kStackBytes;
    fibre.context.uc_link = nullptr;
    fibre.waiting = Waiting::kNothing;
    fibre.copies.clear();
    fibre.commits = 0;
    makecontext(&fibre.context, enter, 0);
  }
  for (;;) {
    std::size_t done = 0;
    for (Fibre& fibre : group.fibres) {
      if (fibre.waiting == Waiting::kNothing) {
        group.current = &fibre;
        swapcontext(&group.scheduler, &fibre.context);
        if (group.error) std::rethrow_exception(std::exchange(group.error, nullptr));
      }
      done += fibre.waiting == Waiting::kDone;
    }
    if (done == group.fibres.size()) return;
    if (!release()) {
      throw std::logic_error(fmt::format(
          "{}: some threads of the group wait for others that never come", group.kernel->name));
    }
  }
}

}  // namespace

Registration::Registration(const char* name, std::size_t argument_bytes, int max_threads,
                           int group_bytes, Body body) {
  kernels()[name] = {name, argument_bytes, max_threads, group_bytes, body};
}

const HostKernel* find_kernel(std::string_view name) {
  const auto it = kernels().find(name);
  return it == kernels().end() ? nullptr : &it->second;
}

void wait_for_group() { wait(Waiting::kForGroup); }

void run_as_warp(void* mine, WarpWork run) {
  group.current->given = mine;
  group.current->work = run;
  wait(Waiting::kForWarp);
}

uint32_t exchange(uint32_t bits, uint32_t from) {
  struct Exchange {
    uint32_t bits, from, result;
  } mine{bits, from, 0};
  run_as_warp(&mine, [](void* const* given) {
    for (std::uint32_t i = 0; i < kWarp; ++i) {
      auto& lane = *static_cast<Exchange*>(given[i]);
      lane.result = static_cast<const Exchange*>(given[lane.from])->bits;
    }
  });
  return mine.result;
}

uint32_t ballot(bool value) {
  uint32_t mine = value ? 1 : 0;
  run_as_warp(&mine, [](void* const* given) {
    uint32_t all = 0;
    for (std::uint32_t i = 0; i < kWarp; ++i) {
      all |= *static_cast<const uint32_t*>(given[i]) << i;
    }
    for (std::uint32_t i = 0; i < kWarp; ++i) *static_cast<uint32_t*>(given[i]) = all;
  });
  return mine;
}

uint32_t current_lane() { return group.current->thread.lane; }

void start_copy(void* to, const void* from, uint32_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 ||
      reinterpret_cast<std::uintptr_t>(from) % bytes != 0) {
    throw std::logic_error(
        fmt::format("{}: a copy of {} bytes that are not aligned", group.kernel->name, bytes));
  }
  group.current->copies.push_back({to, from, bytes, group.current->commits});
}

void commit_copies() { ++group.current->commits; }

void wait_for_copies(uint32_t commits_left) {
  std::vector<Copy>& copies = group.current->copies;
  const auto done = std::find_if(copies.begin(), copies.end(), [&](const Copy& copy) {
    return copy.commit + commits_left >= group.current->commits;
  });
  for (auto copy = copies.begin(); copy != done; ++copy) {
    if (copy->from != nullptr) {
      std::memcpy(copy->to, copy->from, copy->bytes);
    } else {
      std::memset(copy->to, 0, copy->bytes);
    }
  }
  copies.erase(copies.begin(), done);
}

void run_grid(const HostKernel& kernel, std::uint32_t grid_x, std::uint32_t grid_y,
              std::uint32_t grid_z, std::uint32_t threads, std::size_t dynamic_group_bytes,
              const void* arguments, std::size_t argument_bytes) {
  if (threads == 0 || threads % kWarp != 0 ||
      threads > static_cast<std::uint32_t>(kernel.max_threads)) {
    throw std::logic_error(fmt::format("{}: {} threads a group; a multiple of {} up to {}",
                                       kernel.name, threads, kWarp, kernel.max_threads));
  }
  if (argument_bytes != kernel.argument_bytes) {
    throw std::logic_error(fmt::format("{}: {} bytes of arguments instead of {}", kernel.name,
                                       argument_bytes, kernel.argument_bytes));
  }
  if ((kernel.group_bytes >= 0 && dynamic_group_bytes != 0) || grid_y > 65535 || grid_z > 65535 ||
      grid_x > 0x7fffffffu) {
    throw std::logic_error(fmt::format("{}: a grid of {}x{}x{} with {} dynamic bytes", kernel.name,
                                       grid_x, grid_y, grid_z, dynamic_group_bytes));
  }
  group.kernel = &kernel;
  group.arguments = arguments;
  group.fibres.resize(threads);
  for (Fibre& fibre : group.fibres) {
    if (!fibre.stack) fibre.stack = std::make_unique<char[]>(kStackBytes);
  }
  const std::size_t bytes =
      kernel.group_bytes >= 0 ? static_cast<std::size_t>(kernel.group_bytes) : dynamic_group_bytes;
  for (std::uint32_t z = 0; z < grid_z; ++z) {
    for (std::uint32_t y = 0; y < grid_y; ++y) {
      for (std::uint32_t x = 0; x < grid_x; ++x) {
        group.memory.assign(bytes + 16, static_cast<char>(0xff));  // NaN: not to be read.
        for (std::uint32_t i = 0; i < threads; ++i) {
          group.fibres[i].thread = {i,      threads, x,      y,         z,
                                    grid_x, grid_y,  grid_z, i % kWarp, i / kWarp};
        }
        run_group();
      }
    }
  }
}

}  // namespace metal_candle::gpu_sim
