#!/bin/sh
# Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#
# Checks the Metal backend without a Mac, as far as a parse goes:
#   1. backend/metal compiles, syntax only, for arm64 macOS 14 against Apple's own metal-cpp headers,
#      with stand-ins for the system's headers below those (tests/metal_sim/apple_stubs);
#   2. the kernels are MSL as far as Clang's C++ for OpenCL goes: its address spaces are part of types
#      as Metal's are, and it has no double, no exceptions, no virtual functions, no function pointers.
#
#   scripts/check_metal.sh [FOLDER]    (metal-cpp's, fetched into it if it is not there; build/metal-cpp)
#
# Exits with 77, and says why, where something that it needs is not there.
set -eu
cd "$(dirname "$0")/.."
metal_cpp=${1:-build/metal-cpp}

skip() { echo "skipped: $1"; exit 77; }
command -v clang++ >/dev/null || skip "there is no clang++ (scripts/install_dependencies.sh clang)"
libcxx=$(ls -d /usr/lib/llvm-*/include/c++/v1 2>/dev/null | tail -1)
[ -n "$libcxx" ] || skip "there is no libc++ (scripts/install_dependencies.sh libc++-dev)"
if [ ! -f "$metal_cpp/Metal/Metal.hpp" ]; then
  scripts/get_metal_cpp.sh "$metal_cpp" || skip "metal-cpp cannot be fetched"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# glibc's headers stand for the system's own, so they are told that the processor is theirs.
system=/usr/include
backend_check() {
  clang++ -fsyntax-only -std=c++20 -fblocks -target arm64-apple-macos14 -Wall -Wextra -Werror -Wno-defaulted-function-deleted -I. \
    -nostdinc++ -isystem tests/metal_sim/apple_stubs -isystem "$metal_cpp" -isystem "$libcxx" \
    -isystem "$system/$(gcc -print-multiarch)" -isystem "$system" \
    -D__x86_64__ -D_GNU_SOURCE -U__nonnull "$@"
}

# An expanded text of kernels, as C++ for OpenCL: kernels are functions like others, memory of a group is
# a pointer, and names that OpenCL has itself are others.
kernel_text() {
  clang -x c++ -E -P -nostdinc -Itests/metal_sim/strict -I. -D__METAL_VERSION__=310 "$1" | sed -E '
    s/\[\[kernel, max_total_threads_per_threadgroup\(([^]]*)\)\]\] void/static void/
    s/threadgroup uint4 memory\[([^;]*)\];/static_assert(sizeof(uint4) * (\1) <= 32768, "32 KiB"); threadgroup uint4* memory = nullptr;/g
    s/\b(atomic_fetch_add_explicit|memory_order|memory_order_relaxed|atomic_float|atomic_uint|half|as_uint|as_float)\b/metal_\1/g
    s/constexpr constant/constexpr const __global/g'
}
# Constants are seen as the device'"'"'s and then as a thread'"'"'s, so that neither is taken for them.
kernel_check() {
  kernel_text "$1" >"$work/kernels.cl"
  for constant in __global __private; do
    clang -x cl -cl-std=clc++2021 -fsyntax-only "-Dconstant=const $constant" -Ddevice=__global \
      -Dthreadgroup=__local -Dthread=__private -Wno-unknown-attributes -Wno-ignored-attributes \
      -Wno-unused-function -Xclang -cl-ext=-all,+cl_khr_fp16,+__opencl_c_generic_address_space \
      -Xclang -cl-ext=+__opencl_c_program_scope_global_variables,+__opencl_c_int64 \
      "$work/kernels.cl" || return 1
  done
  # What OpenCL has and Metal has not: long long, static variables, pointers to anywhere.
  perl -0777 -ne '
    my $bad = 0;
    for (/.*(?:\blong long\b|\d[uU]?ll\b).*/g) { print "long long: $_\n"; $bad = 1; }
    for (/.*\bstatic (?!inline|void|constexpr|__attribute__|[\w:<> ]+\().*/g) { print "static: $_\n"; $bad = 1; }
    1 while s/\w+<[^<>*&(){};]*>/X/g;
    while (/([^(,;{}<>:]*\w)[*&](?=[\s)>,])/g) {
      my $type = $1;
      next if $type =~ /\b(device|threadgroup|thread|constant|operator)\b/ || $type =~ /^\s*$/;
      print "no address space: $type*\n";
      $bad = 1;
    }
    exit $bad;' "$work/kernels.cl"
}

status=0
for source in metal_candle/backend/metal/*.cpp; do
  backend_check "$source" || { echo "$source does not compile against metal-cpp" >&2; status=1; }
done
kernel_check metal_candle/backend/metal/kernels.metal || { echo "kernels.metal is not MSL" >&2; status=1; }

# The checks find what they are for.
must_fail() {
  printf '#include <metal_stdlib>\nusing namespace metal;\n%s\n' "$1" >"$work/wrong.metal"
  if kernel_check "$work/wrong.metal" >/dev/null 2>&1; then
    echo "the check of kernels takes: $1" >&2
    status=1
  fi
}
must_fail 'void f(threadgroup float* x); void g(device float* x) { f(x); }'
must_fail 'void f(constant float& x); void g(device float* x) { f(*x); }'
must_fail 'void f(constant float& x); void g(thread float* x) { f(*x); }'
must_fail 'void f(thread float& x); void g(constant float& x) { f(x); }'
must_fail 'void g(device float* x) { float* y = x; }'
must_fail 'double f(float x) { return x; }'
must_fail 'void f() { throw 1; }'
must_fail 'struct A { virtual void f(); };'
must_fail 'void f(void (*g)(int)) { g(1); }'
must_fail 'long long f();'
must_fail 'int f() { static int x; return ++x; }'
must_fail 'void f() { threadgroup uint4 memory[2049]; }'
cat >"$work/wrong.cpp" <<'TEXT'
#include "metal_candle/backend/metal/metal_api.h"
void wrong(MTL::ComputeCommandEncoder* encoder, MTL::SharedEvent* event) { encoder->waitForFence(event); }
TEXT
if backend_check "$work/wrong.cpp" 2>/dev/null; then
  echo "the check of the backend takes an event for a fence" >&2
  status=1
fi
[ "$status" -ne 0 ] || echo "backend/metal and its kernels are well formed"
exit $status
