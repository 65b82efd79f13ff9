// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the parts of the Metal in software share.
#pragma once

#include <Metal/Metal.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/gpu_sim/fibres.h"
#include "tests/metal_sim/metal_sim.h"

namespace metal_sim {

[[noreturn]] void violation(const std::string& text);

/// A kernel of a compiled library, as the translated text describes it (library.cpp).
struct Kernel {
  const char* name;
  void (*body)(const void* bindings, char* memory, const Thread& thread);
  int max_threads;
  std::uint32_t static_group_bytes;
  std::uint32_t buffers;         // Bit i: it has an argument [[buffer(i)]]...
  std::uint32_t group_memories;  // ...and [[threadgroup(i)]].
  std::uint32_t argument_bytes;  // Of the struct at [[buffer(0)]].
  std::uint32_t argument_alignment;
};
constexpr int kMostBindings = 8;
/// What bodies are called with.
struct KernelBindings {
  const void* buffers[kMostBindings];
  std::uint32_t group_offsets[kMostBindings];  // In the group's memory.
};

/// Memory of a buffer, at two addresses: the host's, and the device's, where it ends at the end of
/// a page and can be touched only while it is resident.
struct Mapping {
  explicit Mapping(std::size_t bytes);
  Mapping(void* pages, std::size_t bytes);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  void set_accessible(bool accessible);

  char* host = nullptr;
  char* device = nullptr;
  std::size_t length = 0;
  bool no_copy = false;
  std::uint64_t seen = 0;  // By the device's thread, when it last saw what is resident.

 private:
  char* host_pages_ = nullptr;
  char* reserved_ = nullptr;  // Device pages between guards.
  std::size_t page_bytes_ = 0;
  bool accessible_ = false;
};
/// Memory of a heap, as far as it counts. Its buffers are mapped each for itself, so that whatever
/// touches more than its own is noticed; they are resident where the heap is.
struct HeapMemory {
  std::size_t size = 0;
  struct Piece {
    std::size_t bytes;
    std::weak_ptr<Mapping> mapping;
  };
  std::map<std::size_t, Piece> pieces;  // By where they begin.
  std::mutex mutex;
};
/// To be called when what is resident may have changed, after that: another buffer in a heap, one
/// that is released, a change of a residency set.
void note_residency_change();
/// What lies at an address of the device: "12 bytes behind a buffer of 256 bytes".
[[nodiscard]] std::string describe_address(std::uint64_t address);
/// Makes faults of kernels errors of their dispatches.
void install_fault_handler();
[[nodiscard]] std::uint64_t count_mappings();

struct Dispatch {
  const Kernel* kernel;
  MTL::Size groups, threads;
  KernelBindings bindings{};  // Addresses of the device.
  std::uint32_t group_bytes = 0;
  std::vector<std::shared_ptr<Mapping>> bound;
  bool indirect = false;
};
/// Checks what is bound, and makes a dispatch of it.
std::shared_ptr<Dispatch> make_dispatch(const MTL::Bindings& bindings, MTL::Size groups,
                                        MTL::Size threads);
/// Throws std::runtime_error for what a kernel did that it must not.
void run_dispatch(const Dispatch& dispatch);

/// The device's queue of committed buffers (gpu.cpp).
void submit(MTL::CommandBuffer* buffer);
void wait_until_completed(const MTL::CommandBuffer* buffer);
void notify_event();

/// The library compiled from text that newLibrary(source) gets. Throws std::runtime_error.
std::vector<const Kernel*> compile_text(const std::string& text);
std::vector<const Kernel*> load_library(const std::string& path);

Statistics& counters();

}  // namespace metal_sim
