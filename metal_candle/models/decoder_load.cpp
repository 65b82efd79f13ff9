// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Decoders out of Hugging Face folders.
#include <fmt/format.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/device_info.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/io/quote.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle {
namespace {

constexpr std::string_view kPrefix = "model.";
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kHead = "lm_head.weight";

// Files saved without the head lack the first component of all names.
std::string name_in(const TensorFiles& files, const std::string& name) {
  if (files.contains(kEmbedding) || !name.starts_with(kPrefix)) return name;
  return name.substr(kPrefix.size());
}

// Old files hold the rotary frequencies, which config.json says too.
bool is_redundant(std::string_view name, const DecoderConfig& config) {
  return name.ends_with("rotary_emb.inv_freq") || (config.tie_word_embeddings && name == kHead);
}

// A head that is saved although config.json says it is the embedding must be that.
void require_tied(const TensorFiles& files, const std::string& embedding,
                  const std::string& config_path) {
  if (!files.contains(kHead)) return;
  const Tensor head = files.tensor(kHead);
  const Tensor table = files.tensor(embedding);
  if (head.shape() == table.shape() && head.dtype() == table.dtype() &&
      all(head == table).item<bool>())
    return;
  throw FormatError(
      fmt::format("{}: tensor {} differs from {}, which stands for it as {} says "
                  "(tie_word_embeddings)",
                  files.path(kHead), quote(kHead), quote(embedding), config_path));
}

void require_all_used(const TensorFiles& files, const std::set<std::string>& used,
                      const DecoderConfig& config, const std::string& config_path) {
  std::vector<std::string> unused;
  for (const std::string& name : files.names()) {
    if (!used.contains(name) && !is_redundant(name, config)) unused.push_back(name);
  }
  if (unused.empty()) return;
  throw FormatError(fmt::format(
      "{}: tensor {}{} is not part of the {} model that {} describes", files.path(unused[0]),
      quote(unused[0]), unused.size() == 1 ? "" : fmt::format(" (and {} more)", unused.size() - 1),
      config.model_type, config_path));
}

Tensor load_tensor(const TensorFiles& files, const std::string& name, const Shape& shape,
                   DType dtype, Device device) {
  const DType stored = files.spec(name).dtype;
  if (!is_floating(stored)) {
    throw FormatError(fmt::format("{}: tensor {} is {}: quantized weights are not supported",
                                  files.path(name), quote(name), metal_candle::name(stored)));
  }
  const Tensor tensor = files.tensor(name, shape).to(device);
  return stored == dtype ? tensor : astype(tensor, dtype).eval();
}

}  // namespace

Decoder Decoder::load(const std::string& folder, const LoadOptions& options) {
  static_cast<void>(device_info(options.device));  // Throws if there is no such device.
  if (options.dtype && !is_floating(*options.dtype)) {
    throw DTypeError(fmt::format("{}: a model of {} is not supported, only of floating dtypes",
                                 folder, metal_candle::name(*options.dtype)));
  }
  const std::string config_path = folder + "/config.json";
  const DecoderConfig config = read_decoder_config(config_path);
  const TensorFiles files = TensorFiles::open(folder);
  const std::string embedding = name_in(files, std::string(kEmbedding));
  const DType dtype = options.dtype ? *options.dtype : files.spec(embedding).dtype;
  Decoder decoder(config, options.device);
  std::set<std::string> used;
  decoder.for_each_slot(
      [&](const std::string& name, const Shape& shape, WeightKind, Tensor& tensor) {
        const std::string stored = name_in(files, name);
        tensor = load_tensor(files, stored, shape, dtype, options.device);
        used.insert(stored);
      });
  require_all_used(files, used, config, config_path);
  if (config.tie_word_embeddings) require_tied(files, embedding, config_path);
  return decoder;
}

}  // namespace metal_candle
