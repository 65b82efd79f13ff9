// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The forward pass of decoders, and their weights by name.
#include "metal_candle/models/decoder.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "metal_candle/autograd/custom.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {

namespace {

// What the layers of one forward pass share. A value: checkpointed layers run again after the
// function that made it has returned.
struct Pass {
  std::shared_ptr<const DecoderConfig> config;
  RotaryEmbedding rotary;
  Tensor offset;       // i32 []: the position of the first token.
  Tensor end;          // i32 []: offset + length.
  Tensor frequencies;  // Of the rotary positions.
};

// [batch, length, heads * head_dim] -> [batch, heads, length, head_dim]
Tensor split_heads(const Tensor& x, std::int64_t heads, std::int64_t head_dim) {
  return transpose(reshape(x, {x.dim(0), x.dim(1), heads, head_dim}), {0, 2, 1, 3});
}

// A key for each linear layer of a block, or empty ones.
class DropoutKeys {
 public:
  DropoutKeys(const Tensor& key, std::size_t block) {
    if (!key.empty())
      keys_ = random::split(random::fold_in(key, static_cast<std::uint32_t>(block)), 7);
  }
  Tensor next() { return keys_.empty() ? Tensor() : keys_[index_++]; }

 private:
  Tensor keys_;
  std::int64_t index_ = 0;
};

Tensor attend(const Pass& pass, const DecoderLayer& layer, const Tensor& x, int window,
              DropoutKeys& keys, KvCache::Layer* cache) {
  const DecoderConfig& config = *pass.config;
  Tensor q = split_heads(layer.q_proj(x, keys.next()), config.num_attention_heads, config.head_dim);
  Tensor k = split_heads(layer.k_proj(x, keys.next()), config.num_key_value_heads, config.head_dim);
  Tensor v = split_heads(layer.v_proj(x, keys.next()), config.num_key_value_heads, config.head_dim);
  if (config.qk_norm) {
    const auto eps = static_cast<float>(config.rms_norm_eps);
    q = rms_norm(q, layer.q_norm, eps);
    k = rms_norm(k, layer.k_norm, eps);
  }
  q = pass.rotary.rotate(q, pass.offset, pass.frequencies);
  k = pass.rotary.rotate(k, pass.offset, pass.frequencies);
  AttentionOptions options;
  options.causal = true;
  options.window = window;
  if (cache != nullptr) {
    cache->keys = dynamic_slice_update(cache->keys, k, pass.offset, {2});
    cache->values = dynamic_slice_update(cache->values, v, pass.offset, {2});
    k = cache->keys;
    v = cache->values;
    options.key_length = pass.end;
  }
  const Tensor attended = scaled_dot_product_attention(q, k, v, options);
  const Tensor merged = reshape(transpose(attended, {0, 2, 1, 3}),
                                {x.dim(0), x.dim(1), config.num_attention_heads * config.head_dim});
  return layer.o_proj(merged, keys.next());
}

Tensor run_layer(const Pass& pass, const DecoderLayer& layer, const Tensor& x, int window,
                 DropoutKeys keys, KvCache::Layer* cache) {
  const auto eps = static_cast<float>(pass.config->rms_norm_eps);
  const Tensor h = x + attend(pass, layer, rms_norm(x, layer.input_norm, eps), window, keys, cache);
  const Tensor normed = rms_norm(h, layer.post_attention_norm, eps);
  const Tensor gate = layer.gate_proj(normed, keys.next());
  const Tensor up = layer.up_proj(normed, keys.next());
  return h + layer.down_proj(swiglu(gate, up), keys.next());
}

template <typename Layer, typename Visit>
void visit_linears(Layer& layer, Visit&& visit) {
  visit("self_attn.q_proj", layer.q_proj);
  visit("self_attn.k_proj", layer.k_proj);
  visit("self_attn.v_proj", layer.v_proj);
  visit("self_attn.o_proj", layer.o_proj);
  visit("mlp.gate_proj", layer.gate_proj);
  visit("mlp.up_proj", layer.up_proj);
  visit("mlp.down_proj", layer.down_proj);
}

// Every tensor of a layer that there is, low-rank updates included.
template <typename Visit>
void visit_tensors(DecoderLayer& layer, Visit&& visit) {
  for (Tensor* tensor :
       {&layer.input_norm, &layer.q_norm, &layer.k_norm, &layer.post_attention_norm}) {
    if (!tensor->empty()) visit(*tensor);
  }
  visit_linears(layer, [&](const char*, Linear& linear) {
    for (Tensor* tensor : {&linear.weight, &linear.bias, &linear.lora.a, &linear.lora.b}) {
      if (!tensor->empty()) visit(*tensor);
    }
  });
}

// The layer as a function of its tensors, so that gradients flow to them, computed again in the
// backward pass. Without a cache.
Tensor run_layer_checkpointed(const Pass& pass, const DecoderLayer& layer, const Tensor& x,
                              int window, const DropoutKeys& keys) {
  std::vector<Tensor> arguments = {x};
  DecoderLayer copy = layer;
  visit_tensors(copy, [&](Tensor& tensor) { arguments.push_back(tensor); });
  const auto function =
      checkpoint(TensorFunction([pass, copy, window, keys](const std::vector<Tensor>& tensors) {
        DecoderLayer own = copy;
        std::size_t next = 1;
        visit_tensors(own, [&](Tensor& tensor) { tensor = tensors[next++]; });
        return std::vector<Tensor>{run_layer(pass, own, tensors[0], window, keys, nullptr)};
      }));
  return function(arguments)[0];
}

}  // namespace

Decoder::Decoder(const DecoderConfig& config, Device device)
    : config_(std::make_shared<const DecoderConfig>(config)),
      rotary_(*config_, device),
      layers_(static_cast<std::size_t>(config_->num_hidden_layers)) {}

Tensor Decoder::run_layers(Tensor x, const ForwardOptions& options) const {
  KvCache* cache = options.cache;
  const auto length = static_cast<std::int32_t>(x.dim(1));
  const Tensor offset = cache != nullptr ? cache->length : zeros({}, DType::kI32, device());
  const Tensor end = offset + length;
  const Pass pass{config_, rotary_, offset, end, rotary_.frequencies(end)};
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const DropoutKeys keys(options.dropout_key, i);
    const int window = config_->windows[i];
    if (options.checkpoint_layers && cache == nullptr) {
      x = run_layer_checkpointed(pass, layers_[i], x, window, keys);
    } else {
      x = run_layer(pass, layers_[i], x, window, keys,
                    cache != nullptr ? &cache->layers[i] : nullptr);
    }
  }
  if (cache != nullptr) cache->length = end;
  return x;
}

Tensor Decoder::hidden_states(const Tensor& tokens, const ForwardOptions& options) const {
  if (tokens.rank() != 2) {
    throw ShapeError(
        fmt::format("Decoder: tokens must be [batch, length], not {}", to_string(tokens.shape())));
  }
  if (const KvCache* cache = options.cache) {
    if (cache->layers.size() != layers_.size() || cache->batch() != tokens.dim(0) ||
        cache->capacity() < tokens.dim(1)) {
      throw ShapeError(fmt::format(
          "Decoder: tokens {} do not fit a cache of {} layers, batch {} and capacity {}",
          to_string(tokens.shape()), cache->layers.size(), cache->batch(), cache->capacity()));
    }
  }
  const Tensor x = run_layers(take(embedding_, tokens, 0), options);
  return rms_norm(x, norm_, static_cast<float>(config_->rms_norm_eps));
}

Tensor Decoder::logits(const Tensor& hidden) const { return linear(hidden, transpose(head())); }

Tensor Decoder::summed_loss(const Tensor& tokens, const Tensor& targets,
                            const ForwardOptions& options) const {
  CrossEntropyOptions loss;
  loss.reduction = Reduction::kSum;
  return linear_cross_entropy(hidden_states(tokens, options), transpose(head()), targets, loss);
}

void Decoder::for_each_slot(const SlotVisitor& visit) {
  const DecoderConfig& c = *config_;
  const std::int64_t q = c.num_attention_heads * c.head_dim;
  const std::int64_t kv = c.num_key_value_heads * c.head_dim;
  const auto visit_linear = [&](const std::string& path, Linear& linear, std::int64_t out,
                                std::int64_t in, bool bias) {
    visit(path + ".weight", {out, in}, WeightKind::kMatrix, linear.weight);
    if (bias) visit(path + ".bias", {out}, WeightKind::kBias, linear.bias);
  };
  visit("model.embed_tokens.weight", {c.vocab_size, c.hidden_size}, WeightKind::kMatrix,
        embedding_);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    DecoderLayer& layer = layers_[i];
    const std::string prefix = fmt::format("model.layers.{}.", i);
    const Shape hidden = {c.hidden_size};
    visit(prefix + "input_layernorm.weight", hidden, WeightKind::kNorm, layer.input_norm);
    visit_linear(prefix + "self_attn.q_proj", layer.q_proj, q, c.hidden_size, c.qkv_bias);
    visit_linear(prefix + "self_attn.k_proj", layer.k_proj, kv, c.hidden_size, c.qkv_bias);
    visit_linear(prefix + "self_attn.v_proj", layer.v_proj, kv, c.hidden_size, c.qkv_bias);
    if (c.qk_norm) {
      visit(prefix + "self_attn.q_norm.weight", {c.head_dim}, WeightKind::kNorm, layer.q_norm);
      visit(prefix + "self_attn.k_norm.weight", {c.head_dim}, WeightKind::kNorm, layer.k_norm);
    }
    visit_linear(prefix + "self_attn.o_proj", layer.o_proj, c.hidden_size, q, c.output_bias);
    visit(prefix + "post_attention_layernorm.weight", hidden, WeightKind::kNorm,
          layer.post_attention_norm);
    visit_linear(prefix + "mlp.gate_proj", layer.gate_proj, c.intermediate_size, c.hidden_size,
                 c.mlp_bias);
    visit_linear(prefix + "mlp.up_proj", layer.up_proj, c.intermediate_size, c.hidden_size,
                 c.mlp_bias);
    visit_linear(prefix + "mlp.down_proj", layer.down_proj, c.hidden_size, c.intermediate_size,
                 c.mlp_bias);
  }
  visit("model.norm.weight", {c.hidden_size}, WeightKind::kNorm, norm_);
  if (!c.tie_word_embeddings) {
    visit("lm_head.weight", {c.vocab_size, c.hidden_size}, WeightKind::kMatrix, head_);
  }
}

Decoder Decoder::random(const DecoderConfig& config, const Tensor& key, DType dtype,
                        double deviation) {
  Decoder decoder(config, key.device());
  std::uint32_t index = 0;
  decoder.for_each_slot([&](const std::string&, const Shape& shape, WeightKind kind,
                            Tensor& tensor) {
    switch (kind) {
      case WeightKind::kNorm:
        tensor = ones(shape, dtype, key.device());
        break;
      case WeightKind::kBias:
        tensor = zeros(shape, dtype, key.device());
        break;
      case WeightKind::kMatrix:
        tensor =
            astype(metal_candle::random::normal(shape, metal_candle::random::fold_in(key, index)) *
                       static_cast<float>(deviation),
                   dtype);
        break;
    }
    ++index;
    eval(tensor);  // One by one: all at once would need their f32 values at the same time.
  });
  return decoder;
}

void Decoder::for_each_parameter(const ParameterVisitor& visit) {
  for_each_slot([&](const std::string& name, const Shape&, WeightKind, Tensor& tensor) {
    visit(name, tensor);
  });
}

void Decoder::for_each_linear(const LinearVisitor& visit) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    visit_linears(layers_[i], [&](const char* path, Linear& linear) {
      visit(fmt::format("model.layers.{}.{}", i, path), static_cast<std::int64_t>(i), linear);
    });
  }
}

void Decoder::for_each_linear(
    const std::function<void(const std::string&, std::int64_t, const Linear&)>& visit) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    visit_linears(layers_[i], [&](const char* path, const Linear& linear) {
      visit(fmt::format("model.layers.{}.{}", i, path), static_cast<std::int64_t>(i), linear);
    });
  }
}

Tree Decoder::parameters() const {
  Tree::Dict dict;
  Decoder copy = *this;
  copy.for_each_parameter([&](const std::string& name, Tensor& tensor) { dict[name] = tensor; });
  return dict;
}

Decoder Decoder::with_parameters(const Tree& parameters) const {
  Decoder result = *this;
  std::size_t used = 0;
  result.for_each_parameter([&](const std::string& name, Tensor& tensor) {
    const auto found = parameters.dict().find(name);
    if (found == parameters.dict().end()) return;
    ++used;
    const Tensor& other = found->second.tensor();
    if (!(other.shape() == tensor.shape())) {
      throw ShapeError(fmt::format("Decoder: {} is {}, not {}", name, to_string(tensor.shape()),
                                   to_string(other.shape())));
    }
    tensor = astype(other, tensor.dtype());
  });
  if (used != parameters.dict().size()) {
    const Tree own = this->parameters();
    for (const auto& [name, value] : parameters.dict()) {
      if (!own.dict().contains(name))
        throw Error(fmt::format("Decoder: there is no parameter {}", name));
    }
  }
  return result;
}

std::size_t Decoder::bytes() const {
  std::size_t bytes = 0;
  for (const Tensor& tensor : parameters().leaves())
    bytes += static_cast<std::size_t>(tensor.size()) * size_of(tensor.dtype());
  return bytes;
}

}  // namespace metal_candle
