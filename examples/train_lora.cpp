// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// LoRA fine-tuning from the library: data, model, trainer, an observer that prints, and the
// adapter.
//
//   example_train_lora [MODEL_FOLDER [TRAIN.jsonl [ADAPTER_FOLDER]]]
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "metal_candle/metal_candle.h"

namespace mc = metal_candle;

namespace {

class Printer final : public mc::TrainObserver {
 public:
  void on_start(const mc::TrainStart& start) override {
    std::printf("%lld trainable parameters, %.1f MB predicted\n",
                static_cast<long long>(start.parameters),
                static_cast<double>(start.predicted_peak_bytes) / 1e6);
  }
  void on_report(const mc::TrainReport& report) override {
    std::printf("iteration %lld: loss %.3f, %.0f tokens/s\n",
                static_cast<long long>(report.iteration), report.loss, report.tokens_per_second);
    losses.push_back(report.loss);
  }
  std::vector<double> losses;
};

// A few sentences to learn, where no file is given.
mc::Dataset small_dataset(const mc::ChatTokenizer& tokenizer) {
  std::vector<mc::TokenSequence> sequences;
  for (const char* text :
       {"Define candle.\nA light that costs nothing to those who sit in the dark.",
        "Define metal.\nA hard substance of which coins and hearts are made.",
        "Define tensor.\nA number that has made a career."}) {
    sequences.push_back({tokenizer.encode(text), 1});
  }
  return mc::Dataset::of(std::move(sequences), "example");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "assets/definitions-5m";
  const mc::Decoder model = mc::Decoder::load(folder);
  const mc::ChatTokenizer tokenizer = mc::ChatTokenizer::load(folder);
  const mc::Dataset data =
      argc > 2 ? mc::Dataset::load(argv[2], tokenizer) : small_dataset(tokenizer);

  mc::FineTuneOptions options;
  options.lora.rank = 8;
  options.lora.target_modules = {"q_proj", "v_proj", "down_proj"};
  options.batch_size = 3;
  options.train.iters = 40;
  options.train.learning_rate = 5e-3;
  mc::FineTuner tuner(model, data, options);
  Printer printer;
  tuner.run(printer);

  const std::string out =
      argc > 3 ? argv[3]
               : (std::filesystem::temp_directory_path() / "metal_candle_lora_example").string();
  mc::save_adapter(out, tuner.adapter(), folder);
  std::printf("adapter in %s\n", out.c_str());
  return printer.losses.back() < 0.5 * printer.losses.front() ? 0 : 1;
}
