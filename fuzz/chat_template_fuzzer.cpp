// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any text as a chat template, and after a NUL the conversation.
#include "fuzz/split_input.h"
#include "metal_candle/core/error.h"
#include "metal_candle/io/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [source, messages] = metal_candle::split_input(
      data, size,
      R"([{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi é"},)"
      R"( {"role": "assistant", "content": "Yes?", "tool_calls": [{"function": {"name": "f",)"
      R"( "arguments": {"x": 1.5}}}]}, {"role": "user", "content": "No"}])");
  metal_candle::ChatTemplateOptions options;
  options.add_generation_prompt = true;
  options.bos_token = "<s>";
  options.eos_token = "</s>";
  options.tools = R"([{"type": "function", "function": {"name": "f"}}])";
  try {
    const auto chat_template = metal_candle::ChatTemplate::parse(source, "fuzzed");
    (void)chat_template.render_json(messages, options);
  } catch (const metal_candle::Error&) {
  }
  return 0;
}
