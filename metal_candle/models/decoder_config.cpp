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

double positive_number(const JsonObject& json, std::string_view key, double value,
                       double most = 1e18) {
  if (!(value > 0) || value > most) {
    throw FormatError(
        fmt::format("{}: {} is not a number between 0 and {}", json.where(key), value, most));
  }
  return value;
}

void require_value(const JsonObject& json, std::string_view key, double only) {
  const double value = json.number(key, only);
  if (value != only) {
    throw FormatError(
        fmt::format("{}: {} is not supported (only {})", json.where(key), value, only));
  }
}

// {"type" or "rope_type": ..., "factor": ...}, and rope_theta in the newer spelling.
RopeScaling read_rope_scaling(const JsonObject& json, std::int64_t max_positions) {
  RopeScaling scaling;
  const char* key = json.has("rope_type") ? "rope_type" : "type";
  const std::string type = json.string(key, "default");
  json.ignore({"type"});  // At times beside rope_type.
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
                    json.where(key), type));
  }
  scaling.factor = positive_number(json, "factor", json.number("factor"), 1e6);
  return scaling;
}

void read_rope(const JsonObject& json, DecoderConfig& config) {
  config.rope_theta =
      positive_number(json, "rope_theta", json.number("rope_theta", config.rope_theta));
  config.rope_scaling.original_max_position_embeddings = config.max_position_embeddings;
  require_value(json, "partial_rotary_factor", 1);
  if (json.has("rope_scaling") && json.has("rope_parameters")) {
    throw FormatError(fmt::format("{}: is there beside rope_scaling, of which it is the newer name",
                                  json.where("rope_parameters")));
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.has(key)) continue;
    const JsonObject rope = json.object(key);
    require_value(rope, "partial_rotary_factor", 1);
    config.rope_theta =
        positive_number(rope, "rope_theta", rope.number("rope_theta", config.rope_theta));
    config.rope_scaling = read_rope_scaling(rope, config.max_position_embeddings);
  }
  if (config.rope_scaling.kind == RopeScaling::Kind::kDynamic && config.head_dim == 2) {
    throw FormatError(
        fmt::format("{}: 2 is too short for dynamic scaling", json.where("head_dim")));
  }
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
  if (!json.has("eos_token_id")) return {};
  if (json.type("eos_token_id") == "array") return json.integers("eos_token_id");
  return {json.integer("eos_token_id")};
}

// Fields of config.json that say how a model was made, saved or is to be run, not what it computes.
// A false, null or empty field is never asked about.
void ignore_harmless(const JsonObject& json) {
  json.ignore({"_attn_implementation",
               "_attn_implementation_autoset",
               "_commit_hash",
               "_flash_attn_2_enabled",
               "_name_or_path",
               "architectures",
               "attn_implementation",
               "auto_map",
               "bos_token_id",
               "chunk_size_feed_forward",
               "finetuning_task",
               "id2label",
               "initializer_range",
               "is_llama_config",
               "label2id",
               "max_sequence_length",
               "model_max_length",
               "neftune_noise_alpha",
               "pad_token_id",
               "pretraining_tp",
               "problem_type",
               "return_dict",
               "sep_token_id",
               "task_specific_params",
               "tokenizer_class",
               "transformers.js_config",
               "transformers_version",
               "unsloth_fixed",
               "unsloth_version",
               "use_cache"});
  // Defaults of sampling, which older versions of transformers kept here.
  json.ignore({"diversity_penalty", "do_sample", "encoder_no_repeat_ngram_size", "length_penalty",
               "max_length", "max_new_tokens", "min_length", "no_repeat_ngram_size",
               "num_beam_groups", "num_beams", "num_return_sequences", "repetition_penalty",
               "temperature", "top_k", "top_p", "typical_p"});
  // Both names of what was read by one of them.
  json.ignore({"dtype", "torch_dtype"});
}

// The window of each layer from the first that has one, or what layer_types says. `window` 0: none.
void read_windows(const JsonObject& json, std::int64_t window, std::int64_t first,
                  DecoderConfig& config) {
  const auto layers = static_cast<std::size_t>(config.num_hidden_layers);
  if (!json.has("layer_types")) {
    for (std::size_t i = 0; i < layers; ++i) {
      if (static_cast<std::int64_t>(i) >= first) config.windows[i] = static_cast<int>(window);
    }
    return;
  }
  const std::vector<std::string> types = json.strings("layer_types");
  if (types.size() != layers) {
    throw FormatError(fmt::format("{}: {} entries for {} layers", json.where("layer_types"),
                                  types.size(), layers));
  }
  for (std::size_t i = 0; i < layers; ++i) {
    if (types[i] == "full_attention") continue;
    if (types[i] != "sliding_attention") {
      throw FormatError(
          fmt::format("{}: \"{}\" is not supported; known are full_attention and "
                      "sliding_attention",
                      json.where("layer_types"), types[i]));
    }
    if (window == 0) {
      throw FormatError(
          fmt::format("{}: layer {} is a sliding_attention, but this model has no sliding window",
                      json.where("layer_types"), i));
    }
    config.windows[i] = static_cast<int>(window);
  }
}

DecoderConfig read_llama(const JsonObject& json) {
  DecoderConfig config = read_common_fields(json);
  config.qkv_bias = config.output_bias = json.boolean("attention_bias", false);
  config.mlp_bias = json.boolean("mlp_bias", false);
  read_windows(json, 0, 0, config);
  return config;
}

// The length of sliding windows: null is none, and a missing one has a length all the same.
std::int64_t read_sliding_window(const JsonObject& json) {
  const std::int64_t otherwise = json.contains("sliding_window") ? 0 : 4096;
  return json.has("sliding_window") ? positive(json, "sliding_window") : otherwise;
}

DecoderConfig read_mistral(const JsonObject& json) {
  DecoderConfig config = read_common_fields(
      json, {.num_key_value_heads = 8, .max_position_embeddings = std::int64_t{1} << 17});
  read_windows(json, read_sliding_window(json), 0, config);
  return config;
}

// Windows from the layer on that max_window_layers says, if they are switched on at all.
void read_qwen_windows(const JsonObject& json, DecoderConfig& config) {
  const std::int64_t first = json.integer("max_window_layers", 28);
  const std::int64_t window = read_sliding_window(json);
  read_windows(json, json.boolean("use_sliding_window", false) ? window : 0, first, config);
}

DecoderConfig read_qwen2(const JsonObject& json) {
  DecoderConfig config =
      read_common_fields(json, {.num_key_value_heads = 32, .max_position_embeddings = 32768});
  config.qkv_bias = true;
  read_qwen_windows(json, config);
  return config;
}

DecoderConfig read_qwen3(const JsonObject& json) {
  DecoderConfig config = read_common_fields(
      json, {.num_key_value_heads = 32, .head_dim = 128, .max_position_embeddings = 32768});
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

namespace {

void read_heads(const JsonObject& json, const FieldDefaults& defaults, DecoderConfig& config) {
  config.num_attention_heads = positive(json, "num_attention_heads");
  // null, unlike nothing at all, asks for what the other fields suggest.
  const std::int64_t kv_heads =
      json.contains("num_key_value_heads") ? 0 : defaults.num_key_value_heads;
  config.num_key_value_heads = positive(
      json, "num_key_value_heads",
      json.integer("num_key_value_heads", kv_heads == 0 ? config.num_attention_heads : kv_heads));
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    throw FormatError(fmt::format("{}: {} does not divide num_attention_heads {}",
                                  json.where("num_key_value_heads"), config.num_key_value_heads,
                                  config.num_attention_heads));
  }
  if (json.has("head_dim")) {
    config.head_dim = positive(json, "head_dim");
  } else if (!json.contains("head_dim") && defaults.head_dim != 0) {
    config.head_dim = defaults.head_dim;
  } else if (config.hidden_size % config.num_attention_heads == 0) {
    config.head_dim = config.hidden_size / config.num_attention_heads;
  } else {
    throw FormatError(
        fmt::format("{}: {} is not a multiple of num_attention_heads {}, and there is no head_dim",
                    json.where("hidden_size"), config.hidden_size, config.num_attention_heads));
  }
  if (config.head_dim % 2 != 0) {
    throw FormatError(fmt::format("{}: {} is odd, and rotary positions need pairs",
                                  json.where("head_dim"), config.head_dim));
  }
  if (config.head_dim * config.num_attention_heads > kMaxLength) {
    throw FormatError(fmt::format("{}: {} heads of {} are more than the {} that are supported",
                                  json.where("num_attention_heads"), config.num_attention_heads,
                                  config.head_dim, kMaxLength));
  }
}

}  // namespace

DecoderConfig read_common_fields(const JsonObject& json, const FieldDefaults& defaults) {
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
  read_heads(json, defaults, config);
  config.max_position_embeddings =
      positive(json, "max_position_embeddings",
               json.integer("max_position_embeddings", defaults.max_position_embeddings));
  config.rms_norm_eps = positive_number(json, "rms_norm_eps", json.number("rms_norm_eps", 1e-6));
  config.tie_word_embeddings = json.boolean("tie_word_embeddings", false);
  const std::string activation = json.string("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    throw FormatError(fmt::format("{}: \"{}\" is not supported; only silu is",
                                  json.where("hidden_act"), activation));
  }
  require_value(json, "attention_dropout", 0);
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
  if (json.has("quantization_config")) {
    throw FormatError(
        fmt::format("{}: quantized weights are not supported; take the model's folder "
                    "of bf16, f16 or f32 weights",
                    json.where("quantization_config")));
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
