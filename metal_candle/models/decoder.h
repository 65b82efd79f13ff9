// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Decoders of the Llama family (Llama 2 and 3, Mistral, Qwen2, Qwen3): one implementation,
// configured by DecoderConfig.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "metal_candle/autograd/tree.h"
#include "metal_candle/graph/tensor.h"
#include "metal_candle/models/decoder_config.h"
#include "metal_candle/models/kv_cache.h"
#include "metal_candle/models/rope.h"
#include "metal_candle/nn/linear.h"

namespace metal_candle {

/// One block: attention, then a gated feed-forward layer, each after a norm and with a residual.
struct DecoderLayer {
  Tensor input_norm;              // [hidden]
  Linear q_proj, k_proj, v_proj;  // [heads * head_dim, hidden], of key heads for k and v.
  Linear o_proj;                  // [hidden, heads * head_dim]
  Tensor q_norm, k_norm;          // [head_dim], or empty.
  Tensor post_attention_norm;     // [hidden]
  Linear gate_proj, up_proj;      // [intermediate, hidden]
  Linear down_proj;               // [hidden, intermediate]
};

/// How to run a decoder.
struct ForwardOptions {
  /// Continues the sequences in it, and adds the new positions to it.
  KvCache* cache = nullptr;
  /// Drops elements of the inputs of low-rank updates; none if empty. A key of random.h.
  Tensor dropout_key = {};
  /// Keeps only the input of each layer for the backward pass and computes the rest again.
  bool checkpoint_layers = false;
};

/// A decoder. A value: copying copies handles of tensors, a few hundred reference counts, so that
/// models with different adapters share the base weights. Const methods are thread safe.
class Decoder {
 public:
  struct LoadOptions {
    std::optional<DType> dtype = {};  // Weights are cast to it; as they are saved if none.
    Device device = default_device();
  };
  /// Loads a Hugging Face model folder: config.json and *.safetensors. Weights that need no cast
  /// are used where they lie in the mapped file. Throws IoError and FormatError naming the file and
  /// the key or tensor.
  static Decoder load(const std::string& folder, const LoadOptions& options);
  static Decoder load(const std::string& folder) { return load(folder, LoadOptions{}); }
  /// Weights drawn from a normal distribution of that deviation (norms are 1, biases 0), evaluated.
  static Decoder random(const DecoderConfig& config, const Tensor& key, DType dtype = DType::kF32,
                        double deviation = 0.02);

  [[nodiscard]] const DecoderConfig& config() const { return *config_; }
  /// Of weights and activations.
  [[nodiscard]] DType dtype() const { return embedding_.dtype(); }
  [[nodiscard]] Device device() const { return embedding_.device(); }

  /// tokens (integer [batch, length]) -> [batch, length, hidden], after the last norm. With a
  /// cache, length more positions; throws ShapeError when the batch differs from the cache's, or
  /// length exceeds its capacity. The caller keeps the sum of lengths within the capacity.
  [[nodiscard]] Tensor hidden_states(const Tensor& tokens,
                                     const ForwardOptions& options = {}) const;
  /// hidden [..., hidden] -> [..., vocab], in the model's dtype.
  [[nodiscard]] Tensor logits(const Tensor& hidden) const;
  /// The sum over targets (integer [batch, length]; -100 is ignored) of the cross entropy of the
  /// logits, f32 [], without ever holding all logits.
  [[nodiscard]] Tensor summed_loss(const Tensor& tokens, const Tensor& targets,
                                   const ForwardOptions& options = {}) const;

  /// Every weight with its name in Hugging Face's files ("model.layers.0.mlp.up_proj.weight"), in
  /// the order of computation; not low-rank updates.
  using ParameterVisitor = std::function<void(const std::string& name, Tensor& tensor)>;
  void for_each_parameter(const ParameterVisitor& visit);
  /// Every linear layer of the blocks with its path ("model.layers.0.mlp.up_proj") and the number
  /// of its block; not the head.
  using LinearVisitor =
      std::function<void(const std::string& path, std::int64_t block, Linear& linear)>;
  void for_each_linear(const LinearVisitor& visit);
  void for_each_linear(
      const std::function<void(const std::string&, std::int64_t, const Linear&)>& visit) const;

  /// The weights by name: a dictionary.
  [[nodiscard]] Tree parameters() const;
  /// The same model with the weights that the dictionary has replaced. Throws Error naming one that
  /// the model does not have, ShapeError if a shape differs.
  [[nodiscard]] Decoder with_parameters(const Tree& parameters) const;
  /// The bytes of all weights.
  [[nodiscard]] std::size_t bytes() const;

 private:
  enum class WeightKind : std::uint8_t { kMatrix, kNorm, kBias };
  // A place for a weight, filled or not.
  using SlotVisitor = std::function<void(const std::string& name, const Shape& shape,
                                         WeightKind kind, Tensor& tensor)>;

  Decoder(const DecoderConfig& config, Device device);
  void for_each_slot(const SlotVisitor& visit);
  [[nodiscard]] Tensor run_layers(Tensor x, const ForwardOptions& options) const;
  [[nodiscard]] Tensor head() const { return head_.empty() ? embedding_ : head_; }

  std::shared_ptr<const DecoderConfig> config_;
  RotaryEmbedding rotary_;
  Tensor embedding_;  // [vocab, hidden]
  std::vector<DecoderLayer> layers_;
  Tensor norm_;  // [hidden]
  Tensor head_;  // [vocab, hidden]; empty if it is the embedding.
};

}  // namespace metal_candle
