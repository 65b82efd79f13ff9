// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Memory of buffers, mapped twice, and what happens when a kernel touches what it must not.
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

#include "tests/metal_sim/internal.h"

namespace metal_sim {
namespace {

constexpr std::size_t kGuard = std::size_t{64} << 10;  // On both sides of a buffer.

std::size_t page() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}
std::size_t whole_pages(std::size_t bytes) { return (bytes + page() - 1) / page() * page(); }

// What lies, or lay, in the device's address space.
struct Place {
  std::uint64_t device = 0;
  std::size_t length = 0;
  bool released = false;
  bool accessible = false;
};
struct Registry {
  std::mutex mutex;
  std::map<std::uint64_t, Place> by_start;  // Of what is reserved.
  std::uint64_t live = 0;
};
Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

[[noreturn]] void check_system(const char* what) {
  throw std::runtime_error(fmt::format("metal_sim: {}: {}", what, std::strerror(errno)));
}

}  // namespace

Mapping::Mapping(std::size_t bytes) : length(bytes), page_bytes_(whole_pages(bytes)) {
  const int file = memfd_create("metal_sim", 0);
  if (file < 0 || ftruncate(file, static_cast<off_t>(page_bytes_)) != 0) check_system("memfd");
  void* pages = mmap(nullptr, page_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  void* reserved = mmap(nullptr, page_bytes_ + 2 * kGuard, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED || reserved == MAP_FAILED) check_system("mmap");
  host_pages_ = static_cast<char*>(pages);
  reserved_ = static_cast<char*>(reserved);
  if (mmap(reserved_ + kGuard, page_bytes_, PROT_NONE, MAP_SHARED | MAP_FIXED, file, 0) ==
      MAP_FAILED) {
    check_system("mmap");
  }
  close(file);
  const std::size_t before = page_bytes_ - bytes;
  host = host_pages_ + before;
  device = reserved_ + kGuard + before;
  const std::lock_guard lock(registry().mutex);
  registry().by_start[reinterpret_cast<std::uint64_t>(reserved_)] = {
      reinterpret_cast<std::uint64_t>(device), length, false, false};
  ++registry().live;
}

Mapping::Mapping(void* pages, std::size_t bytes)
    : host(static_cast<char*>(pages)), device(host), length(bytes), no_copy(true) {
  const std::lock_guard lock(registry().mutex);
  ++registry().live;
}

// The device's addresses stay taken for a while, so that nothing else comes to lie there.
Mapping::~Mapping() {
  constexpr std::size_t kMostReleased = 4096;
  const std::lock_guard lock(registry().mutex);
  --registry().live;
  if (no_copy) return;
  munmap(host_pages_, page_bytes_);
  mmap(reserved_ + kGuard, page_bytes_, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  static std::map<std::uint64_t, std::pair<char*, std::size_t>> released;
  static std::uint64_t number = 0;
  registry().by_start[reinterpret_cast<std::uint64_t>(reserved_)].released = true;
  released[number++] = {reserved_, page_bytes_ + 2 * kGuard};
  if (released.size() <= kMostReleased) return;
  const auto oldest = released.begin();
  registry().by_start.erase(reinterpret_cast<std::uint64_t>(oldest->second.first));
  munmap(oldest->second.first, oldest->second.second);
  released.erase(oldest);
}

void Mapping::set_accessible(bool accessible) {
  if (no_copy || accessible == accessible_) return;
  accessible_ = accessible;
  mprotect(reserved_ + kGuard, page_bytes_, accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
  const std::lock_guard lock(registry().mutex);
  registry().by_start[reinterpret_cast<std::uint64_t>(reserved_)].accessible = accessible;
}

std::uint64_t count_mappings() {
  const std::lock_guard lock(registry().mutex);
  return registry().live;
}

std::string describe_address(std::uint64_t address) {
  const std::lock_guard lock(registry().mutex);
  auto it = registry().by_start.upper_bound(address);
  if (it != registry().by_start.begin()) {
    const Place& place = std::prev(it)->second;
    const std::uint64_t end = place.device + place.length;
    if (address < end + kGuard) {
      const std::string buffer =
          fmt::format("{} buffer of {} bytes", place.released ? "a released" : "a", place.length);
      if (address >= end) return fmt::format("{} bytes behind {}", address - end, buffer);
      if (address < place.device) {
        return fmt::format("{} bytes before {}", place.device - address, buffer);
      }
      return fmt::format("byte {} of {}{}", address - place.device, buffer,
                         place.released || place.accessible ? "" : " that is not resident");
    }
  }
  return fmt::format("{:#x}, where no buffer of the device is", address);
}

namespace {

thread_local const Kernel* running = nullptr;
thread_local std::uint64_t fault_address = 0;

// The kernel's thread goes on here instead of at what it could not do.
void after_fault() {
  metal_candle::gpu_sim::fail_thread(std::make_exception_ptr(std::runtime_error(
      fmt::format("{} touches {}", running->name, describe_address(fault_address)))));
}

void on_fault(int signal, siginfo_t* info, void* context) {
  if (running == nullptr) {  // Not a kernel: as if this handler were not here.
    ::signal(signal, SIG_DFL);
    return;
  }
  fault_address = reinterpret_cast<std::uint64_t>(info->si_addr);
  auto* where = static_cast<ucontext_t*>(context);
#if defined(__x86_64__)
  auto& stack = where->uc_mcontext.gregs[REG_RSP];
  stack = ((stack - 256) & ~std::intptr_t{15}) - 8;
  where->uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(after_fault);
#elif defined(__aarch64__)
  where->uc_mcontext.sp = (where->uc_mcontext.sp - 256) & ~std::uint64_t{15};
  where->uc_mcontext.pc = reinterpret_cast<std::uint64_t>(after_fault);
#else
#error "How does a signal handler send a thread elsewhere on this processor?"
#endif
}

}  // namespace

void install_fault_handler() {
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    return true;
  }();
  static_cast<void>(installed);
}

void run_dispatch(const Dispatch& dispatch) {
  const Kernel& kernel = *dispatch.kernel;
  const metal_candle::gpu_sim::HostKernel host{kernel.name, sizeof(KernelBindings),
                                               kernel.max_threads,
                                               static_cast<int>(dispatch.group_bytes), kernel.body};
  running = &kernel;
  try {
    metal_candle::gpu_sim::run_grid(host, static_cast<std::uint32_t>(dispatch.groups.width),
                                    static_cast<std::uint32_t>(dispatch.groups.height),
                                    static_cast<std::uint32_t>(dispatch.groups.depth),
                                    static_cast<std::uint32_t>(dispatch.threads.width), 0,
                                    &dispatch.bindings, sizeof(KernelBindings));
  } catch (...) {
    running = nullptr;
    throw;
  }
  running = nullptr;
}

}  // namespace metal_sim

// ---- Heaps: first fit.

namespace MTL {

using metal_sim::violation;

void HeapDescriptor::setSize(NS::UInteger bytes) {
  check();
  size = bytes;
}
void HeapDescriptor::setResourceOptions(ResourceOptions value) {
  check();
  options = value;
}
SizeAndAlign Device::heapBufferSizeAndAlign(NS::UInteger length, ResourceOptions) {
  check();
  constexpr NS::UInteger kAlign = 256;
  return {(length + kAlign - 1) / kAlign * kAlign, kAlign};
}
Heap* Device::newHeap(const HeapDescriptor* descriptor) {
  check();
  descriptor->check();
  if (descriptor->size == 0) violation("a heap of no bytes");
  if (descriptor->size > metal_sim::machine().max_heap_size) return nullptr;
  auto* heap = new Heap;
  heap->heap = std::make_shared<metal_sim::HeapMemory>();
  heap->heap->size = descriptor->size;
  heap->options = descriptor->options;
  ++metal_sim::counters().heaps;
  return heap;
}
Buffer* Heap::newBuffer(NS::UInteger length, ResourceOptions asked) {
  check();
  if (asked != options) violation("a buffer of a heap with other options than the heap's");
  if (length == 0) violation("a buffer of no bytes");
  const std::size_t bytes = (length + 255) / 256 * 256;
  const std::lock_guard lock(heap->mutex);
  std::size_t begin = 0;
  for (const auto& [at, piece] : heap->pieces) {
    if (at - begin >= bytes) break;
    begin = at + piece.bytes;
  }
  if (begin + bytes > heap->size) return nullptr;
  auto* buffer = new Buffer;
  buffer->mapping = std::make_shared<metal_sim::Mapping>(length);
  buffer->heap = heap;
  heap->pieces[begin] = {bytes, buffer->mapping};
  metal_sim::note_residency_change();
  return buffer;
}
NS::UInteger Heap::size() const {
  check();
  return heap->size;
}
NS::UInteger Heap::usedSize() const {
  check();
  const std::lock_guard lock(heap->mutex);
  NS::UInteger used = 0;
  for (const auto& [at, piece] : heap->pieces) used += piece.bytes;
  return used;
}
void Heap::setLabel(const NS::String* label) {
  check();
  label->check();
}
void Buffer::dispose() {
  if (heap) {
    const std::lock_guard lock(heap->mutex);
    std::erase_if(heap->pieces,
                  [&](const auto& piece) { return piece.second.mapping.lock() == mapping; });
  }
  Resource::dispose();
  metal_sim::note_residency_change();
}

}  // namespace MTL
