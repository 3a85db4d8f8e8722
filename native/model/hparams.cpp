#include "model/hparams.h"

#include <cmath>
#include <stdexcept>

namespace trimode {

namespace {

constexpr const char * ARCHITECTURE = "mistral3";

// Attention factor of YaRN (Peng et al. 2023, eq. 22, as in transformers' get_mscale).
float mscale(float factor, float scale) { return factor <= 1.0f ? 1.0f : 0.1f * scale * std::log(factor) + 1.0f; }

Rope read_rope(const GgufFile & file, const std::string & arch, int head_dim, int n_ctx_train) {
    const auto key = [&](const char * name) { return arch + ".rope." + name; };
    Rope rope;
    rope.n_dims = file.integer(key("dimension_count")).value_or(head_dim);
    rope.freq_base = static_cast<float>(file.number(key("freq_base")).value_or(10000.0));
    rope.n_ctx_orig = file.integer(key("scaling.original_context_length")).value_or(n_ctx_train);

    const std::string type = file.str(key("scaling.type")).value_or("none");
    if (type == "none") {
        return rope;
    }
    const float factor = static_cast<float>(file.require(key("scaling.factor")));
    rope.freq_scale = 1.0f / factor;
    if (type == "linear") {
        return rope;
    }
    if (type != "yarn") {
        throw std::runtime_error(file.path() + ": " + key("scaling.type") + " is \"" + type +
                                 "\"; supported: none, linear, yarn");
    }
    rope.ext_factor = 1.0f;
    rope.beta_fast = static_cast<float>(file.number(key("scaling.yarn_beta_fast")).value_or(32.0));
    rope.beta_slow = static_cast<float>(file.number(key("scaling.yarn_beta_slow")).value_or(1.0));
    const float log_multiplier = static_cast<float>(file.number(key("scaling.yarn_log_multiplier")).value_or(0.0));
    rope.attn_factor = mscale(factor, 1.0f);
    if (log_multiplier != 0.0f) {
        rope.attn_factor /= mscale(factor, log_multiplier);
    }
    rope.attn_factor /= 1.0f + 0.1f * std::log(factor);
    rope.attn_factor *= static_cast<float>(file.number(key("scaling.attn_factor")).value_or(1.0));
    return rope;
}

}  // namespace

Hparams Hparams::read(const GgufFile & file) {
    const std::string arch = file.str("general.architecture").value_or("");
    if (arch != ARCHITECTURE) {
        throw std::runtime_error(file.path() + ": architecture \"" + arch + "\" is not supported; expected \"" +
                                 ARCHITECTURE + "\" (a Nemotron-Labs-Diffusion model made by trimode-convert)");
    }
    const auto required = [&](const char * name) { return file.require_integer(arch + "." + name); };
    Hparams h;
    h.n_layer = required("block_count");
    h.n_embd = required("embedding_length");
    h.n_ff = required("feed_forward_length");
    h.n_head = required("attention.head_count");
    h.n_head_kv = file.integer(arch + ".attention.head_count_kv").value_or(h.n_head);
    h.head_dim = file.integer(arch + ".attention.key_length").value_or(h.n_head > 0 ? h.n_embd / h.n_head : 0);
    h.n_ctx_train = required("context_length");
    h.rms_eps = static_cast<float>(file.require(arch + ".attention.layer_norm_rms_epsilon"));
    h.temperature_scale = static_cast<float>(file.number(arch + ".attention.temperature_scale").value_or(0.0));
    h.rope = read_rope(file, arch, h.head_dim, h.n_ctx_train);

    const int value_length = file.integer(arch + ".attention.value_length").value_or(h.head_dim);
    if (value_length != h.head_dim || h.rope.n_dims != h.head_dim) {
        throw std::runtime_error(file.path() + ": attention.key_length, attention.value_length and " +
                                 "rope.dimension_count differ (" + std::to_string(h.head_dim) + ", " +
                                 std::to_string(value_length) + ", " + std::to_string(h.rope.n_dims) +
                                 "); the engine needs them equal");
    }
    if (h.n_layer <= 0 || h.n_embd <= 0 || h.head_dim <= 0 || h.n_head_kv <= 0 || h.n_head % h.n_head_kv != 0) {
        throw std::runtime_error(file.path() + ": impossible shape in the metadata (block_count " +
                                 std::to_string(h.n_layer) + ", head_count " + std::to_string(h.n_head) +
                                 ", head_count_kv " + std::to_string(h.n_head_kv) + ")");
    }
    return h;
}

float Hparams::query_scale(int32_t pos) const {
    if (temperature_scale == 0.0f) {
        return 1.0f;
    }
    return 1.0f + temperature_scale * std::log(1.0f + std::floor(static_cast<float>(pos) / rope.n_ctx_orig));
}

}  // namespace trimode
