// What a forward pass needs to know of a model, read from its GGUF metadata.
#pragma once

#include <cstdint>

#include "model/gguf_file.h"

namespace trimode {

// Parameters of ggml_rope_ext, derived as llama.cpp's context does (llama-context.cpp) and transformers'
// modeling_rope_utils (yarn): cos and sin are scaled by mscale(factor, 1) / mscale(factor, log_multiplier),
// and ggml's own factor 1 + 0.1 ln(factor) is cancelled.
struct Rope {
    int n_dims = 0;
    float freq_base = 10000.0f;
    float freq_scale = 1.0f;  // 1 / factor
    float ext_factor = 0.0f;  // 1 with YaRN
    float attn_factor = 1.0f;
    float beta_fast = 32.0f;
    float beta_slow = 1.0f;
    int n_ctx_orig = 0;
};

struct Hparams {
    int n_layer = 0;
    int n_embd = 0;
    int n_ff = 0;
    int n_head = 0;
    int n_head_kv = 0;
    int head_dim = 0;
    int n_ctx_train = 0;
    float rms_eps = 1e-5f;
    float temperature_scale = 0.0f;  // beta of the query scale; 0: none
    Rope rope;

    // Throws std::runtime_error for another architecture, or for what the graph does not do.
    static Hparams read(const GgufFile & file);

    // Query scale at a position, applied after RoPE: 1 + beta ln(1 + floor(pos / original_context)).
    // Source: Ministral 3's llama_4_scaling_beta; llama.cpp llm_graph_input_attn_temp.
    float query_scale(int32_t pos) const;
};

}  // namespace trimode
