#include "vision/tower_graph.h"

#include <cmath>

namespace trimode {

namespace {

constexpr float ROPE_THETA = 10000.0f;  // PixtralVisionConfig's default; llama.cpp's clip.cpp has it built in
constexpr int NODES_PER_LAYER = 48;
constexpr int NODES_AROUND = 64;

class Builder {
  public:
    Builder(const TowerHparams & hparams, const TowerWeights & weights, int n_patches, ggml_type kv_type)
        : h_(hparams), w_(weights), n_(n_patches), kv_type_(kv_type) {}

    TowerGraph build() {
        const size_t n_nodes = size_t(h_.n_layer) * NODES_PER_LAYER + NODES_AROUND;
        c_ = ggml_init({n_nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_nodes, false), nullptr,
                        /*no_alloc=*/true});
        g_.ctx.reset(c_);
        g_.graph = ggml_new_graph_custom(c_, n_nodes, false);
        const int64_t n_in = ggml_nelements(w_.patch_embd) / h_.n_embd;
        g_.patches = ggml_new_tensor_2d(c_, GGML_TYPE_F32, n_in, n_);
        g_.positions = ggml_new_tensor_1d(c_, GGML_TYPE_I32, 2 * int64_t(n_));
        ggml_set_input(g_.patches);
        ggml_set_input(g_.positions);
        row_of_ = ggml_view_1d(c_, g_.positions, n_, 0);
        column_of_ = ggml_view_1d(c_, g_.positions, n_, n_ * sizeof(int32_t));

        // A convolution whose stride is its size is a matrix product.
        ggml_tensor * kernel = ggml_reshape_2d(c_, w_.patch_embd, n_in, h_.n_embd);
        ggml_tensor * x = norm(ggml_mul_mat(c_, kernel, g_.patches), w_.pre_ln);
        for (const TowerLayer & layer : w_.layers) {
            x = ggml_add(c_, x, attention(layer, norm(x, layer.ln1)));
            x = ggml_add(c_, x, feed_forward(layer, norm(x, layer.ln2)));
        }
        g_.rows = project(x);
        ggml_set_output(g_.rows);
        ggml_build_forward_expand(g_.graph, g_.rows);
        return std::move(g_);
    }

  private:
    ggml_tensor * norm(ggml_tensor * x, ggml_tensor * weight) {
        return ggml_mul(c_, ggml_rms_norm(c_, x, h_.eps), weight);
    }

    // transformers' PixtralRotaryEmbedding: of the frequencies theta^(-2i/d) the even ones turn with a patch's row,
    // in the first half of the head, the odd ones with its column, in the second.
    ggml_tensor * rope(ggml_tensor * x) {
        const int d = h_.head_dim();
        x = ggml_rope_ext(c_, x, row_of_, nullptr, d / 2, GGML_ROPE_TYPE_NORMAL, 0, ROPE_THETA, 1.0f, 0.0f, 1.0f, 0.0f,
                          0.0f);
        x = ggml_rope_ext(c_, x, column_of_, nullptr, d / 2, GGML_ROPE_TYPE_NORMAL, 0, ROPE_THETA,
                          std::pow(ROPE_THETA, -2.0f / d), 0.0f, 1.0f, 0.0f, 0.0f);
        return ggml_rope_set_offset(x, d / 2);
    }

    ggml_tensor * heads(ggml_tensor * weight, ggml_tensor * in) {
        return ggml_reshape_3d(c_, ggml_mul_mat(c_, weight, in), h_.head_dim(), h_.n_head, n_);
    }

    ggml_tensor * in_kv_type(ggml_tensor * x) {
        x = ggml_permute(c_, x, 0, 2, 1, 3);
        return kv_type_ == GGML_TYPE_F32 ? x : ggml_cast(c_, x, kv_type_);
    }

    // Every patch sees every other: no mask.
    ggml_tensor * attention(const TowerLayer & layer, ggml_tensor * in) {
        ggml_tensor * q = ggml_permute(c_, rope(heads(layer.wq, in)), 0, 2, 1, 3);
        ggml_tensor * k = in_kv_type(rope(heads(layer.wk, in)));
        ggml_tensor * v = in_kv_type(heads(layer.wv, in));
        ggml_tensor * a = ggml_flash_attn_ext(c_, q, k, v, nullptr, 1.0f / std::sqrt(float(h_.head_dim())), 0.0f, 0.0f);
        ggml_flash_attn_ext_set_prec(a, GGML_PREC_F32);
        return ggml_mul_mat(c_, layer.wo, ggml_reshape_2d(c_, a, h_.n_embd, n_));
    }

    ggml_tensor * feed_forward(const TowerLayer & layer, ggml_tensor * in) {
        ggml_tensor * gate = ggml_mul_mat(c_, layer.ffn_gate, in);
        ggml_tensor * up = ggml_mul_mat(c_, layer.ffn_up, in);
        // transformers' "gelu" is the exact one.
        ggml_tensor * x = h_.silu ? ggml_swiglu_split(c_, gate, up) : ggml_geglu_erf_split(c_, gate, up);
        return ggml_mul_mat(c_, layer.ffn_down, x);
    }

    // The four patches of a cell become one row; the merger's columns are channel first (torch's unfold).
    ggml_tensor * project(ggml_tensor * x) {
        constexpr int N_CELL = CELL_PATCHES * CELL_PATCHES;
        x = norm(x, w_.input_norm);
        x = ggml_cont(c_, ggml_permute(c_, ggml_reshape_3d(c_, x, h_.n_embd, N_CELL, n_ / N_CELL), 1, 0, 2, 3));
        x = ggml_mul_mat(c_, w_.merger, ggml_reshape_2d(c_, x, int64_t(N_CELL) * h_.n_embd, n_ / N_CELL));
        x = ggml_gelu_erf(c_, with_bias(ggml_mul_mat(c_, w_.linear_1, x), w_.bias_1));
        return with_bias(ggml_mul_mat(c_, w_.linear_2, x), w_.bias_2);
    }

    ggml_tensor * with_bias(ggml_tensor * x, ggml_tensor * bias) { return bias ? ggml_add(c_, x, bias) : x; }

    const TowerHparams & h_;
    const TowerWeights & w_;
    const int n_;
    const ggml_type kv_type_;
    ggml_context * c_ = nullptr;
    ggml_tensor * row_of_ = nullptr;
    ggml_tensor * column_of_ = nullptr;
    TowerGraph g_;
};

}  // namespace

TowerGraph build_tower_graph(const TowerHparams & hparams, const TowerWeights & weights, int n_patches,
                             ggml_type kv_type) {
    return Builder(hparams, weights, n_patches, kv_type).build();
}

}  // namespace trimode
