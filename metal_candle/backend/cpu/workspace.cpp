// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The stack is a list of blocks that never move, so that earlier pointers stay valid when it grows.
// When it is empty again, several blocks become one.
#include "metal_candle/backend/cpu/workspace.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace metal_candle::backend::cpu {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kMinimumBlock = std::size_t{256} << 10;

struct Free {
  void operator()(void* p) const { std::free(p); }
};

struct Block {
  std::unique_ptr<void, Free> memory;
  std::size_t size = 0;
};

struct Stack {
  std::vector<Block> blocks;
  std::size_t block = 0;  // The one in use,
  std::size_t used = 0;   // and how much of it.
};

thread_local Stack stack;

Block make_block(std::size_t size) {
  Block block{std::unique_ptr<void, Free>(std::aligned_alloc(kAlignment, size)), size};
  if (!block.memory) throw std::bad_alloc();
  return block;
}

}  // namespace

Workspace::Workspace() : block_(stack.block), used_(stack.used) {}

Workspace::~Workspace() {
  stack.block = block_;
  stack.used = used_;
  if (block_ == 0 && used_ == 0 && stack.blocks.size() > 1) {
    std::size_t total = 0;
    for (const Block& block : stack.blocks) total += block.size;
    stack.blocks.clear();
    // A failure here is not an error: the next take() tries again.
    try {
      stack.blocks.push_back(make_block(total));
    } catch (const std::bad_alloc&) {
    }
  }
}

void* Workspace::take_bytes(std::size_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (stack.block < stack.blocks.size() && stack.blocks[stack.block].size - stack.used < bytes) {
    ++stack.block;
    stack.used = 0;
  }
  if (stack.block == stack.blocks.size()) {
    stack.blocks.push_back(make_block(std::max(bytes, kMinimumBlock)));
  }
  char* const result = static_cast<char*>(stack.blocks[stack.block].memory.get()) + stack.used;
  stack.used += bytes;
  return result;
}

}  // namespace metal_candle::backend::cpu
