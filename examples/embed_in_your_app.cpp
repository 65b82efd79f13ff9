// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Fine-tuning inside a program: a model is loaded once; a background thread tunes an adapter on a
// few hundred lines while the same weights answer prompts; then the adapter is saved and used.
//
//   example_embed_in_your_app [MODEL_FOLDER]
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "metal_candle/metal_candle.h"

namespace mc = metal_candle;
namespace fs = std::filesystem;

namespace {

// What your program knows: here, made up.
void write_training_data(const fs::path& path) {
  std::ofstream file(path);
  for (int i = 0; i < 300; ++i) {
    file << R"({"prompt": "Define item )" << i % 100 << R"(.", "completion": "Part number )"
         << i % 100 << R"( of our catalogue."})" << '\n';
  }
}

std::string ask(mc::Generator& generator, const mc::ChatTokenizer& tokenizer,
                const std::string& question) {
  mc::ChatRequest request;
  request.messages = {{"user", question}};
  request.add_generation_prompt = true;
  mc::GenerateOptions options;
  options.max_tokens = 24;
  return generator.generate(tokenizer.encode_chat(request), options).text;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "assets/definitions-5m";
  const fs::path work = fs::temp_directory_path() / "metal_candle_embed_example";
  fs::create_directories(work);
  write_training_data(work / "train.jsonl");

  const mc::Decoder model = mc::Decoder::load(folder);
  const mc::ChatTokenizer tokenizer = mc::ChatTokenizer::load(folder);
  const mc::Dataset data = mc::Dataset::load((work / "train.jsonl").string(), tokenizer,
                                             {.max_seq_length = 64, .mask_prompt = true});
  mc::FineTuneOptions options;
  options.lora.target_modules = {"all-linear"};
  options.batch_size = 8;
  options.train.iters = 60;
  options.train.learning_rate = 3e-3;
  mc::FineTuner tuner(model, data, options);

  std::atomic<bool> done{false};
  std::thread training([&] {
    tuner.run();
    done = true;
  });
  mc::Generator generator(model, tokenizer.tokenizer());
  int answered = 0;
  do {
    ask(generator, tokenizer, "Define water.");
    ++answered;
  } while (!done);
  training.join();
  std::printf("answered %d prompts while training\n", answered);

  mc::save_adapter((work / "adapter").string(), tuner.adapter(), folder);
  mc::AdapterRegistry adapters(model);
  adapters.add("catalogue", mc::load_adapter((work / "adapter").string()));
  std::printf("base:      %s\n", ask(generator, tokenizer, "Define item 7.").c_str());
  generator.set_model(adapters.model("catalogue"));
  const std::string answer = ask(generator, tokenizer, "Define item 7.");
  std::printf("catalogue: %s\n", answer.c_str());
  fs::remove_all(work);
  return answer.find("catalogue") != std::string::npos ? 0 : 1;
}
