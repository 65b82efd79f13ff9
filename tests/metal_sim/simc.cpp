// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal_simc SOURCE INCLUDE OUT: compiles a file of Metal's language for the Metal in software, as
// `xcrun metal` does for a real one.
#include <cstdio>
#include <exception>

#include "tests/metal_sim/metal_sim.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: metal_simc SOURCE INCLUDE OUT\n", stderr);
    return 2;
  }
  try {
    metal_sim::compile_file(argv[1], argv[2], argv[3]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", argv[1], e.what());
    return 1;
  }
  return 0;
}
