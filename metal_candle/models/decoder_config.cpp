// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading config.json, by model type.
#include "metal_candle/models/decoder_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <mutex>
#include <utility>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

// Beyond any model, and so little that parameters can be counted in 64 bits.
constexpr std::int64_t kMaxLength = std::int64_t{1} << 24;  // Of any dimension.
constexpr std::int64_t kMaxLayers = 1024;

std::int64_t positive(const JsonObject& json, std::string_view key, std::int64_t value) {
  if (value < 1 || value > kMaxLength) {
    throw FormatError(fmt::format("{}: {} is not a length", json.where(key), value));
  }
  return value;
}
std::int64_t positive(const JsonObject& json, std::string_view key) {
  return positive(json, key, json.integer(key));
}

double positive_number(const JsonObject& json, std::string_view key, double value) {
  if (!(value > 0) || value > 1e300) {
    throw FormatError(fmt::format("{}: {} is not a positive number", json.where(key), value));
  }
  return value;
}

// {"type" or "rope_type": ..., "factor": ...}, and rope_theta in the newer spelling.
RopeScaling read_rope_scaling(const JsonObject& json, std::int64_t max_positions) {
  RopeScaling scaling;
  const std::string type = json.string("rope_type", json.string("type", "default"));
  json.ignore({"type", "rope_theta"});
  scaling.original_max_position_embeddings =
      json.integer("original_max_position_embeddings", max_positions);
  if (type == "default") return scaling;
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
  } else if (type == "dynamic") {
    scaling.kind = RopeScaling::Kind::kDynamic;
  } else if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
    scaling.low_freq_factor =
        positive_number(json, "low_freq_factor", json.number("low_freq_factor"));
    scaling.high_freq_factor =
        positive_number(json, "high_freq_factor", json.number("high_freq_factor"));
    scaling.original_max_position_embeddings = positive(json, "original_max_position_embeddings");
    if (scaling.high_freq_factor <= scaling.low_freq_factor) {
      throw FormatError(fmt::format("{}: {} is not above low_freq_factor {}",
                                    json.where("high_freq_factor"), scaling.high_freq_factor,
                                    scaling.low_freq_factor));
    }
  } else {
    throw FormatError(
        fmt::format("{}: \"{}\" is not supported; known are default, linear, dynamic "
                    "and llama3",
                    json.where("rope_type"), type));
  }
  scaling.factor = positive_number(json, "factor", json.number("factor"));
  return scaling;
}

void read_rope(const JsonObject& json, DecoderConfig& config) {
  config.rope_theta = json.number("rope_theta", config.rope_theta);
  config.rope_scaling.original_max_position_embeddings = config.max_position_embeddings;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.has(key)) continue;
    const JsonObject rope = json.object(key);
    json.ignore({key});
    config.rope_theta = rope.number("rope_theta", config.rope_theta);
    config.rope_scaling = read_rope_scaling(rope, config.max_position_embeddings);
  }
  positive_number(json, "rope_theta", config.rope_theta);
}

DType read_dtype(const JsonObject& json) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (!json.has(key)) continue;
    const std::string text = json.string(key);
    try {
      return parse_dtype(text);
    } catch (const Error&) {
      throw FormatError(fmt::format("{}: \"{}\" is not a dtype", json.where(key), text));
    }
  }
  return DType::kF32;
}

std::vector<std::int64_t> read_eos(const JsonObject& json) {
  if (json.type("eos_token_id") != "array") {
    const std::int64_t id = json.integer("eos_token_id", -1);
    return id < 0 ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{id};
  }
  std::vector<std::int64_t> ids;
  for (const double id : json.numbers("eos_token_id")) ids.push_back(static_cast<std::int64_t>(id));
  return ids;
}

// Fields of config.json that say how a model was trained, saved or is to be run, not what it
// computes. A false, null or empty field is never asked about.
void ignore_harmless(const JsonObject& json) {
  json.ignore({"model_type",
               "architectures",
               "_name_or_path",
               "transformers_version",
               "use_cache",
               "initializer_range",
               "attention_dropout",
               "bos_token_id",
               "pad_token_id",
               "torch_dtype",
               "dtype",
               "eos_token_id",
               "_attn_implementation",
               "attn_implementation",
               "auto_map",
               "chunk_size_feed_forward",
               "id2label",
               "label2id",
               "return_dict",
               "problem_type",
               "unsloth_version",
               "unsloth_fixed",
               "task_specific_params",
               "layer_types",
               "sliding_window",
               "max_window_layers",
               "is_encoder_decoder",
               "output_hidden_states",
               "output_attentions"});
  // These change results only when a program asks for sampling through the model itself, or trains.
  json.ignore({"temperature", "top_k", "top_p", "repetition_penalty", "length_penalty", "num_beams",
               "num_beam_groups", "max_length", "min_length", "num_return_sequences",
               "diversity_penalty", "encoder_no_repeat_ngram_size", "no_repeat_ngram_size",
               "typical_p", "hidden_dropout", "resid_pdrop", "embd_pdrop"});
}

void require_value(const JsonObject& json, std::string_view key, double only) {
  const double value = json.number(key, only);
  if (value != only) {
    throw FormatError(
        fmt::format("{}: {} is not supported (only {})", json.where(key), value, only));
  }
}

// The window of each layer: layer_types where there are any, else the family's rule.
void read_windows(const JsonObject& json, std::int64_t first_windowed_layer,
                  DecoderConfig& config) {
  std::int64_t window = json.integer("sliding_window", 0);
  if (window < 0 || window > kMaxLength) {
    throw FormatError(fmt::format("{}: {} is not a length", json.where("sliding_window"), window));
  }
  const auto layers = static_cast<std::size_t>(config.num_hidden_layers);
  config.windows.assign(layers, 0);
  if (!json.has("layer_types")) {
    for (std::size_t i = 0; i < layers; ++i) {
      if (static_cast<std::int64_t>(i) >= first_windowed_layer)
        config.windows[i] = static_cast<int>(window);
    }
    return;
  }
  const std::vector<std::string> types = json.strings("layer_types");
  if (types.size() != layers) {
    throw FormatError(fmt::format("{}: {} entries for {} layers", json.where("layer_types"),
                                  types.size(), layers));
  }
  for (std::size_t i = 0; i < layers; ++i) {
    if (types[i] == "sliding_attention") {
      if (window == 0) {
        throw FormatError(fmt::format("{}: missing, but layer {} is a sliding_attention",
                                      json.where("sliding_window"), i));
      }
      config.windows[i] = static_cast<int>(window);
    } else if (types[i] != "full_attention") {
      throw FormatError(
          fmt::format("{}: \"{}\" is not supported; known are full_attention and "
                      "sliding_attention",
                      json.where("layer_types"), types[i]));
    }
  }
}

DecoderConfig read_llama(const JsonObject& json) {
  DecoderConfig config = read_common_fields(json);
  config.qkv_bias = config.output_bias = json.boolean("attention_bias", false);
  config.mlp_bias = json.boolean("mlp_bias", false);
  require_value(json, "pretraining_tp", 1);  // Only how products are split.
  return config;
}

DecoderConfig read_mistral(const JsonObject& json) {
  DecoderConfig config = read_common_fields(json);
  read_windows(json, 0, config);
  return config;
}

// Windows from the layer on that max_window_layers says, if they are switched on at all.
void read_qwen_windows(const JsonObject& json, DecoderConfig& config) {
  const std::int64_t first = json.integer("max_window_layers", 28);
  if (json.boolean("use_sliding_window", false)) {
    read_windows(json, first, config);
  } else {
    json.ignore({"layer_types"});
  }
}

DecoderConfig read_qwen2(const JsonObject& json) {
  DecoderConfig config = read_common_fields(json);
  config.qkv_bias = true;
  read_qwen_windows(json, config);
  return config;
}

DecoderConfig read_qwen3(const JsonObject& json) {
  DecoderConfig config = read_common_fields(json);
  config.qkv_bias = config.output_bias = json.boolean("attention_bias", false);
  config.qk_norm = true;
  read_qwen_windows(json, config);
  return config;
}

class Registry {
 public:
  static Registry& instance() {
    static auto* registry = new Registry;
    return *registry;
  }
  void add(std::string name, DecoderConfigReader reader) {
    const std::lock_guard lock(mutex_);
    readers_[std::move(name)] = std::move(reader);
  }
  DecoderConfigReader find(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = readers_.find(name);
    return found == readers_.end() ? nullptr : found->second;
  }
  std::vector<std::string> names() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [name, reader] : readers_) names.push_back(name);
    return names;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, DecoderConfigReader> readers_ = {{"llama", read_llama},
                                                         {"mistral", read_mistral},
                                                         {"qwen2", read_qwen2},
                                                         {"qwen3", read_qwen3}};
};

}  // namespace

DecoderConfig read_common_fields(const JsonObject& json) {
  DecoderConfig config;
  config.model_type = json.string("model_type");
  config.vocab_size = positive(json, "vocab_size");
  config.hidden_size = positive(json, "hidden_size");
  config.intermediate_size = positive(json, "intermediate_size");
  config.num_hidden_layers = positive(json, "num_hidden_layers");
  if (config.num_hidden_layers > kMaxLayers) {
    throw FormatError(fmt::format("{}: {} is more than the {} that are supported",
                                  json.where("num_hidden_layers"), config.num_hidden_layers,
                                  kMaxLayers));
  }
  config.num_attention_heads = positive(json, "num_attention_heads");
  config.num_key_value_heads = positive(
      json, "num_key_value_heads", json.integer("num_key_value_heads", config.num_attention_heads));
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    throw FormatError(fmt::format("{}: {} does not divide num_attention_heads {}",
                                  json.where("num_key_value_heads"), config.num_key_value_heads,
                                  config.num_attention_heads));
  }
  config.head_dim = json.integer("head_dim", 0);
  if (config.head_dim == 0) {
    if (config.hidden_size % config.num_attention_heads != 0) {
      throw FormatError(
          fmt::format("{}: {} is not a multiple of num_attention_heads {}, and there "
                      "is no head_dim",
                      json.where("hidden_size"), config.hidden_size, config.num_attention_heads));
    }
    config.head_dim = config.hidden_size / config.num_attention_heads;
  }
  positive(json, "head_dim", config.head_dim);
  positive(json, "head_dim * num_attention_heads", config.head_dim * config.num_attention_heads);
  if (config.head_dim % 2 != 0) {
    throw FormatError(fmt::format("{}: {} is odd, and rotary positions need pairs",
                                  json.where("head_dim"), config.head_dim));
  }
  config.max_position_embeddings =
      positive(json, "max_position_embeddings", json.integer("max_position_embeddings", 2048));
  config.rms_norm_eps = positive_number(json, "rms_norm_eps", json.number("rms_norm_eps", 1e-6));
  config.tie_word_embeddings = json.boolean("tie_word_embeddings", false);
  const std::string activation = json.string("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    throw FormatError(fmt::format("{}: \"{}\" is not supported; only silu is",
                                  json.where("hidden_act"), activation));
  }
  require_value(json, "partial_rotary_factor", 1);
  read_rope(json, config);
  config.dtype = read_dtype(json);
  config.eos_token_ids = read_eos(json);
  config.windows.assign(static_cast<std::size_t>(config.num_hidden_layers), 0);
  return config;
}

DecoderConfig read_decoder_config(const std::string& path) {
  return read_decoder_config(JsonObject::read(path));
}

DecoderConfig read_decoder_config(const JsonObject& json) {
  const std::string type = json.string("model_type");
  const DecoderConfigReader reader = Registry::instance().find(type);
  if (!reader) {
    throw FormatError(fmt::format("{}: \"{}\" is not a model this version can run; it knows {}",
                                  json.where("model_type"), type, fmt::join(model_types(), ", ")));
  }
  DecoderConfig config = reader(json);
  ignore_harmless(json);
  const std::vector<std::string> unread = json.unread();
  if (!unread.empty()) {
    throw FormatError(fmt::format(
        "{}: this version does not know this setting of a {} model, which may change what it "
        "computes. If it does not, remove it from the file{}",
        json.where(unread[0]), type,
        unread.size() == 1 ? std::string()
                           : fmt::format(" (the same goes for {})",
                                         fmt::join(unread.begin() + 1, unread.end(), ", "))));
  }
  return config;
}

void register_model_type(std::string model_type, DecoderConfigReader reader) {
  Registry::instance().add(std::move(model_type), std::move(reader));
}

std::vector<std::string> model_types() { return Registry::instance().names(); }

std::int64_t DecoderConfig::context_length() const {
  if (rope_scaling.kind != RopeScaling::Kind::kDynamic) return max_position_embeddings;
  return static_cast<std::int64_t>(static_cast<double>(max_position_embeddings) *
                                   rope_scaling.factor);
}

std::int64_t DecoderConfig::num_parameters() const {
  const std::int64_t q = num_attention_heads * head_dim;
  const std::int64_t kv = num_key_value_heads * head_dim;
  std::int64_t layer =
      hidden_size * (2 * q + 2 * kv) + 3 * hidden_size * intermediate_size + 2 * hidden_size;
  if (qkv_bias) layer += q + 2 * kv;
  if (output_bias) layer += hidden_size;
  if (mlp_bias) layer += 2 * intermediate_size + hidden_size;
  if (qk_norm) layer += 2 * head_dim;
  return num_hidden_layers * layer + (tie_word_embeddings ? 1 : 2) * vocab_size * hidden_size +
         hidden_size;
}

}  // namespace metal_candle
