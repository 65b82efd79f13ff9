// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A tokenizer and its chat template.
#include "metal_candle/io/chat_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/io/tokenizer_config.h"

namespace metal_candle {

ChatTokenizer ChatTokenizer::load(const std::string& folder) {
  const TokenizerConfig config = TokenizerConfig::load(folder);
  ChatTokenizer result(Tokenizer::load(folder));
  result.bos_token_ = config.bos_token;
  result.eos_token_ = config.eos_token;
  if (const std::string* source = config.chat_template()) {
    result.chat_template_ = ChatTemplate::parse(*source, folder + ": chat_template");
  }
  result.stop_ids_ = config.eos_token_ids;
  if (config.eos_token) {
    result.eos_id_ = result.tokenizer_.token_to_id(*config.eos_token);
    if (!result.eos_id_) {
      throw FormatError(fmt::format(
          "{}: tokenizer_config.json: eos_token \"{}\" is not in the vocabulary of tokenizer.json",
          folder, *config.eos_token));
    }
    result.stop_ids_.push_back(*result.eos_id_);
  } else if (!config.eos_token_ids.empty()) {
    result.eos_id_ = config.eos_token_ids[0];
  }
  std::sort(result.stop_ids_.begin(), result.stop_ids_.end());
  result.stop_ids_.erase(std::unique(result.stop_ids_.begin(), result.stop_ids_.end()),
                         result.stop_ids_.end());
  return result;
}

std::vector<std::int32_t> ChatTokenizer::encode(std::string_view text) const {
  return tokenizer_.encode(text);
}

std::string ChatTokenizer::render_chat(const ChatRequest& request) const {
  if (!chat_template_) {
    throw FormatError(
        "this model has no chat template (chat_template in tokenizer_config.json, or "
        "chat_template.jinja); give it a plain prompt");
  }
  ChatTemplateOptions options;
  options.add_generation_prompt = request.add_generation_prompt;
  options.bos_token = bos_token_;
  options.eos_token = eos_token_;
  options.tools = request.tools;
  options.variables = request.variables;
  return request.messages_json.empty()
             ? chat_template_->render(request.messages, options)
             : chat_template_->render_json(request.messages_json, options);
}

std::vector<std::int32_t> ChatTokenizer::encode_chat(const ChatRequest& request) const {
  return tokenizer_.encode(render_chat(request), /*add_special_tokens=*/false);
}

}  // namespace metal_candle
