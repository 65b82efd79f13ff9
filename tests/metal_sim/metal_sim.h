// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A Metal in software, for tests: backend/metal is compiled against its headers (include/) instead
// of Apple's. The text of kernels is compiled by the host's compiler, in the very form in which
// Metal would get it (library.cpp), and run on the CPU, the threads of a group as fibres.
//
// It is strict where Metal is, or where Metal only goes wrong. A std::logic_error where it is
// called: use of a released object; objects without an autorelease pool; encoding after the end or
// the commit; committing twice or with an open encoder; dispatches without a pipeline, with
// arguments that are not bound, overlap or reach beyond their buffer, of too many threads or more
// than 32 KiB of threadgroup memory; host pointers that are not pages. The command buffer's error,
// naming the kernel: access outside of any buffer, to a released one, or to one that is not
// resident, by itself or with its heap. The device sees buffers at other addresses than the host,
// which end where memory ends. Dispatches without a barrier between them run in random order, and
// so do the encoders of a queue without a fence.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace metal_sim {

/// What the machine claims to be.
struct Machine {
  bool apple7 = true;
  bool metal3 = true;
  int macos = 15;
  std::uint64_t max_buffer_length = std::uint64_t{8} << 30;
  std::uint64_t working_set = std::uint64_t{8} << 30;
  bool takes_host_pages = true;
  std::uint64_t max_heap_size = std::uint64_t{8} << 30;
};
[[nodiscard]] Machine& machine();

/// Makes the next command buffer fail so, once it has run.
void fail_next(long code, std::string text);

/// Keeps committed work from running, so that some gathers.
void pause();
void resume();

/// Of the random order.
void set_seed(std::uint32_t seed);

struct Statistics {
  std::uint64_t dispatches = 0;
  std::uint64_t indirect_dispatches = 0;  // Of those.
  std::uint64_t encoders = 0;
  std::uint64_t barriers = 0;
  std::uint64_t compiled = 0;   // Libraries made of text, whether by the compiler or kept.
  std::uint64_t no_copy = 0;    // Buffers made of host pages.
  std::uint64_t reordered = 0;  // Encoders of a queue that ran before an earlier one.
  std::uint64_t live_buffers = 0;
  std::uint64_t heaps = 0;  // That were made.
};
[[nodiscard]] Statistics statistics();

/// Signposts, while they are recorded.
void record_signposts(bool record);
struct Signpost {
  std::string name, text;
  bool ended = false;
};
[[nodiscard]] std::vector<Signpost> signposts();

/// Compiles a file of Metal's language to a library that newLibrary(URL) loads. Throws
/// std::runtime_error with the compiler's words.
void compile_file(const std::string& source, const std::string& include, const std::string& out);

}  // namespace metal_sim
