// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See fibres.h. A fibre runs threads of a group, one after the other, until one of them waits: only
// then does the next thread need a fibre of its own. So kernels in which nobody waits cost one
// switch a group.
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

// Switching by hand costs nanoseconds; swapcontext() asks the kernel for the signal mask each time.
// Sanitizers follow swapcontext() only.
#if defined(__x86_64__) && defined(__ELF__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define MC_SWITCH_BY_HAND 1
asm(R"(
.text
.local metal_candle_switch_fibre
.type metal_candle_switch_fibre, @function
metal_candle_switch_fibre:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size metal_candle_switch_fibre, .-metal_candle_switch_fibre
)");
// Keeps the stack pointer in *from, with what a function must preserve below it, and takes `to`.
extern "C" void metal_candle_switch_fibre(void** from, void* to);
#else
#define MC_SWITCH_BY_HAND 0
#endif

namespace metal_candle::gpu_sim {
namespace {

constexpr std::uint32_t kWarp = 32;
constexpr std::size_t kStackBytes = std::size_t{256} << 10;
constexpr std::size_t kGuardBytes = 16;  // Behind the group's memory.
constexpr char kUnset = static_cast<char>(0xff);

std::map<std::string, HostKernel, std::less<>>& kernels() {
  static std::map<std::string, HostKernel, std::less<>> all;
  return all;
}

// Where a stack goes on.
class Context {
 public:
#if MC_SWITCH_BY_HAND
  void start(char* stack, void (*entry)()) {
    auto top = reinterpret_cast<std::uintptr_t>(stack + kStackBytes) & ~std::uintptr_t{15};
    auto* frame = reinterpret_cast<void**>(top) - 8;  // Six registers, the entry, its return.
    std::fill(frame, frame + 8, nullptr);
    frame[6] = reinterpret_cast<void*>(entry);
    pointer_ = frame;
  }
  void switch_to(const Context& to) { metal_candle_switch_fibre(&pointer_, to.pointer_); }

 private:
  void* pointer_ = nullptr;
#else
  void start(char* stack, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = kStackBytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
  }
  void switch_to(const Context& to) { swapcontext(&context_, &to.context_); }

 private:
  ucontext_t context_{};
#endif
};

struct Copy {
  void* to;
  const void* from;
  std::uint32_t bytes;
  std::uint32_t commit;  // The number of the commit that it belongs to.
};

enum class Waiting { kNotStarted, kNothing, kForGroup, kForWarp, kForSignal, kDone };

struct Fibre {
  std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStackBytes);
  Context context;
};

// A thread of the group.
struct Member {
  Waiting waiting = Waiting::kNotStarted;
  Fibre* fibre = nullptr;
  void* given = nullptr;  // To the warp, and what the warp does with it.
  WarpWork work = nullptr;
  std::vector<Copy> copies;  // That it did not wait for yet.
  std::uint32_t commits = 0;
  const SignalState* signal = nullptr;  // That it waits for to be past
  std::uint32_t phase = 0;              // this phase.
  Thread thread{};
};

struct Group {
  std::vector<Member> members;
  std::size_t count = 0;  // Of members that this kernel has.
  std::size_t next = 0;   // The first that has not started.
  std::vector<std::unique_ptr<Fibre>> fibres;
  std::vector<Fibre*> idle;
  Context scheduler;
  Member* current = nullptr;
  Fibre* running = nullptr;
  std::size_t waiting = 0;           // Members that wait for the whole group,
  std::vector<std::size_t> of_warp;  // and those of each warp that wait for that.
  const HostKernel* kernel = nullptr;
  const void* arguments = nullptr;
  std::vector<char> memory;
  std::exception_ptr error;
};
// The group that runs on this thread of the host. Kernels ask for it all the time, so it is found
// without a call: hence a plain pointer, and a library that is there from the start.
#if defined(__ELF__)
[[gnu::tls_model("initial-exec")]]
#endif
constinit thread_local Group* this_group = nullptr;

void run_member(Member& member) {
  Group& group = *this_group;
  group.current = &member;
  member.fibre = group.running;
  member.waiting = Waiting::kNothing;
  try {
    group.kernel->body(group.arguments, group.memory.data(), member.thread);
  } catch (...) {
    group.error = std::current_exception();
  }
  // Whichever fibre it was that ran it to its end.
  group.current->waiting = Waiting::kDone;
}

void enter() {
  Group& group = *this_group;
  for (;;) {
    while (group.next < group.count && !group.error) run_member(group.members[group.next++]);
    Fibre* self = group.running;
    group.idle.push_back(self);
    self->context.switch_to(group.scheduler);
  }
}

void resume(Fibre& fibre) {
  Group& group = *this_group;
  group.running = &fibre;
  group.scheduler.switch_to(fibre.context);
  if (group.error) std::rethrow_exception(std::exchange(group.error, nullptr));
}

Fibre& take_idle_fibre() {
  Group& group = *this_group;
  if (group.idle.empty()) {
    group.fibres.push_back(std::make_unique<Fibre>());
    group.fibres.back()->context.start(group.fibres.back()->stack.get(), enter);
    return *group.fibres.back();
  }
  Fibre* const fibre = group.idle.back();
  group.idle.pop_back();
  return *fibre;
}

// Lets a warp go on that has arrived, beginning with the member that is returned.
Member* release_warp(std::size_t warp) {
  Group& group = *this_group;
  Member* const first = &group.members[warp * kWarp];
  void* given[kWarp];
  for (std::size_t i = 0; i < kWarp; ++i) given[i] = first[i].given;
  first->work(given);
  for (std::size_t i = 0; i < kWarp; ++i) first[i].waiting = Waiting::kNothing;
  group.of_warp[warp] = 0;
  return first;
}

// Goes on with a member that can, and to the scheduler if the one behind this one cannot.
void wait(Waiting what) {
  Group& group = *this_group;
  Member* const self = group.current;
  Fibre* const fibre = self->fibre;
  const auto index = static_cast<std::size_t>(self - group.members.data());
  self->waiting = what;
  Member* next = index + 1 < group.count ? self + 1 : nullptr;
  if (what == Waiting::kForGroup) {
    ++group.waiting;
  } else if (what == Waiting::kForWarp && ++group.of_warp[index / kWarp] == kWarp) {
    next = release_warp(index / kWarp);
  }
  if (next == nullptr || next->waiting > Waiting::kNothing) {
    fibre->context.switch_to(group.scheduler);
    return;
  }
  if (next->waiting == Waiting::kNothing) {
    group.current = next;
    group.running = next->fibre;
  } else {
    group.running = &take_idle_fibre();
  }
  fibre->context.switch_to(group.running->context);
}

// Those in the middle of a kernel that failed begin anew.
void reset_fibres() {
  Group& group = *this_group;
  group.idle.clear();
  for (const auto& fibre : group.fibres) {
    fibre->context.start(fibre->stack.get(), enter);
    group.idle.push_back(fibre.get());
  }
}

// Lets the whole group go on if it has arrived. Returns whether it has.
bool release() {
  Group& group = *this_group;
  if (group.waiting != group.count) return false;
  group.waiting = 0;
  for (std::size_t i = 0; i < group.count; ++i) group.members[i].waiting = Waiting::kNothing;
  return true;
}

void run_group() {
  Group& group = *this_group;
  for (std::size_t i = 0; i < group.count; ++i) {
    Member& member = group.members[i];
    member.waiting = Waiting::kNotStarted;
    member.copies.clear();
    member.commits = 0;
  }
  group.next = 0;
  group.waiting = 0;
  group.of_warp.assign(group.count / kWarp, 0);
  for (;;) {
    std::size_t done = 0;
    bool ran = false;
    for (std::size_t i = 0; i < group.count; ++i) {
      Member& member = group.members[i];
      if (member.waiting == Waiting::kForSignal && member.signal->phase != member.phase) {
        member.waiting = Waiting::kNothing;
      }
      ran = ran || member.waiting <= Waiting::kNothing;
      if (member.waiting == Waiting::kNotStarted) {
        resume(take_idle_fibre());
      } else if (member.waiting == Waiting::kNothing) {
        group.current = &member;
        resume(*member.fibre);
      }
      done += member.waiting == Waiting::kDone;
    }
    if (done == group.count) return;
    if (!release() && !ran) {
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
  Group& group = *this_group;
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

uint32_t current_lane() { return this_group->current->thread.lane; }

char* group_memory() { return this_group->memory.data(); }

void fail_thread(std::exception_ptr error) {
  Group& group = *this_group;
  group.error = std::move(error);
  group.current->waiting = Waiting::kDone;
  group.running->context.switch_to(group.scheduler);
  std::terminate();  // Its fibre begins anew before it would come here.
}

void start_copy(void* to, const void* from, uint32_t bytes) {
  Group& group = *this_group;
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 ||
      reinterpret_cast<std::uintptr_t>(from) % bytes != 0) {
    throw std::logic_error(
        fmt::format("{}: a copy of {} bytes that are not aligned", group.kernel->name, bytes));
  }
  group.current->copies.push_back({to, from, bytes, group.current->commits});
}

void commit_copies() { ++this_group->current->commits; }

void wait_for_copies(uint32_t commits_left) {
  const Group& group = *this_group;
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

void arrive(SignalState& signal, int32_t bytes_expected) {
  if (signal.pending == 0) {
    throw std::logic_error(fmt::format("{}: more arrivals at a signal than it was made for",
                                       this_group->kernel->name));
  }
  signal.pending = (signal.pending - 1u) & 0xffffu;
  bytes_came(signal, -bytes_expected);
}

void bytes_came(SignalState& signal, int32_t bytes) {
  signal.bytes -= bytes;
  if (signal.pending != 0 || signal.bytes != 0) return;
  signal.phase ^= 1;
  signal.pending = signal.count;
}

void wait_for_signal(const SignalState& signal, uint32_t phase) {
  if (signal.phase != phase) return;
  this_group->current->signal = &signal;
  this_group->current->phase = phase;
  wait(Waiting::kForSignal);
}

void copy_box(void* to, const void* map, int32_t column, int32_t row, SignalState& signal) {
  constexpr std::int64_t kBlock = 64;
  const auto& box = *static_cast<const BoxedMatrix*>(map);
  auto* const out = static_cast<std::uint16_t*>(to);
  const auto* const from = static_cast<const std::uint16_t*>(box.address);
  for (std::int64_t i = 0; i < box.box_rows; ++i) {
    for (std::int64_t j = 0; j < box.box_columns; ++j) {
      const bool inside = row + i < box.rows && column + j < box.columns;
      const std::int64_t chunk = (j / 8) ^ (i % 8);
      out[i * kBlock + chunk * 8 + j % 8] =
          inside ? from[(row + i) * box.row_stride + column + j] : std::uint16_t{0};
    }
  }
  bytes_came(signal, static_cast<std::int32_t>(2 * box.box_rows * box.box_columns));
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
  static thread_local Group group;
  this_group = &group;
  group.kernel = &kernel;
  group.arguments = arguments;
  group.count = threads;
  if (group.members.size() < threads) group.members.resize(threads);
  const std::size_t bytes =
      kernel.group_bytes >= 0 ? static_cast<std::size_t>(kernel.group_bytes) : dynamic_group_bytes;
  try {
    for (std::uint32_t z = 0; z < grid_z; ++z) {
      for (std::uint32_t y = 0; y < grid_y; ++y) {
        for (std::uint32_t x = 0; x < grid_x; ++x) {
          group.memory.assign(bytes + kGuardBytes, kUnset);  // NaN: not to be read.
          for (std::uint32_t i = 0; i < threads; ++i) {
            group.members[i].thread = {i,      threads, x,      y,         z,
                                       grid_x, grid_y,  grid_z, i % kWarp, i / kWarp};
          }
          run_group();
          const auto guard = group.memory.end() - std::ptrdiff_t{kGuardBytes};
          if (std::any_of(guard, group.memory.end(), [](char c) { return c != kUnset; })) {
            throw std::logic_error(
                fmt::format("{}: writes beyond the {} bytes of its group", kernel.name, bytes));
          }
        }
      }
    }
  } catch (...) {
    reset_fibres();
    throw;
  }
}

}  // namespace metal_candle::gpu_sim
