// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Text from a model folder, streamed.
//
//   example_generate [MODEL_FOLDER [PROMPT]]
#include <cstdio>
#include <string>

#include "metal_candle/metal_candle.h"

namespace mc = metal_candle;

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "assets/definitions-5m";
  const std::string prompt = argc > 2 ? argv[2] : "Define river.\n";
  mc::Generator generator(mc::Decoder::load(folder), mc::Tokenizer::load(folder));
  mc::GenerateOptions options;
  options.max_tokens = 40;
  options.sampling.temperature = 0.7f;
  options.sampling.top_p = 0.9f;
  const mc::GenerationResult result =
      generator.generate(prompt, options, [](const mc::GeneratedPiece& piece) {
        std::printf("%.*s", static_cast<int>(piece.text.size()), piece.text.data());
        std::fflush(stdout);
        return true;
      });
  std::printf("\n%lld tokens, %.0f tokens/s, ended by %s\n",
              static_cast<long long>(result.stats.generated_tokens),
              result.stats.tokens_per_second(),
              std::string(mc::name(result.finish_reason)).c_str());
  return result.tokens.empty() ? 1 : 0;
}
