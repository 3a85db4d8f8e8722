#include "graph.h"

#include <algorithm>
#include <cmath>

#include "kv_cache.h"
#include "lora.h"
#include "model.h"

namespace trimode {

namespace {

constexpr size_t NODES_PER_LAYER = 64;  // without attention pieces, of which there may be many
constexpr size_t NODES_PER_PIECE = 12;

class Builder {
  public:
    Builder(const Model & model, const KvCache & cache, const GraphOptions & options, const GraphKey & key)
        : model_(model), h_(model.hparams()), cache_(cache), options_(options), key_(key) {
        pieces_ = attention_pieces(key.n_rows, key.n_tiled, options.bit_stable);
        const size_t max_nodes = (NODES_PER_LAYER + NODES_PER_PIECE * pieces_.size()) * (h_.n_layer + 1);
        const size_t bytes = ggml_tensor_overhead() * max_nodes + ggml_graph_overhead_custom(max_nodes, false);
        g_.ctx.reset(ggml_init({bytes, nullptr, /*no_alloc=*/true}));
        c_ = g_.ctx.get();
        g_.graph = ggml_new_graph_custom(c_, max_nodes, false);
    }

    Graph build() {
        make_inputs();
        ggml_tensor * x = ggml_get_rows(c_, model_.token_embd(), g_.tokens);
        for (int i = 0; i < h_.n_layer; ++i) {
            const bool last = i + 1 == h_.n_layer;
            ggml_tensor * attended = attention(x, i, last && key_.n_out == 0);
            if (!attended) {
                return std::move(g_);
            }
            if (last && g_.out_rows) {
                attended = ggml_get_rows(c_, attended, g_.out_rows);
                x = ggml_get_rows(c_, x, g_.out_rows);
            }
            x = feed_forward(ggml_add(c_, attended, x), model_.layers()[i]);
        }
        x = norm(x, model_.output_norm());
        g_.logits = ggml_mul_mat(c_, model_.output(), x);
        ggml_set_output(g_.logits);
        ggml_build_forward_expand(g_.graph, g_.logits);
        return std::move(g_);
    }

  private:
    ggml_tensor * input(ggml_tensor * t, const char * name) {
        ggml_set_input(t);
        ggml_set_name(t, name);
        return t;
    }

    void make_inputs() {
        const int n = key_.n_rows;
        g_.tokens = input(ggml_new_tensor_1d(c_, GGML_TYPE_I32, n), "tokens");
        g_.positions = input(ggml_new_tensor_1d(c_, GGML_TYPE_I32, n), "positions");
        g_.cells = input(ggml_new_tensor_1d(c_, GGML_TYPE_I64, n), "cells");
        int n_queries = 0;
        for (const AttentionPiece & piece : pieces_) {
            n_queries += piece.padded;
        }
        const ggml_type mask_type = options_.flash_attn ? GGML_TYPE_F16 : GGML_TYPE_F32;
        g_.mask = input(ggml_new_tensor_2d(c_, mask_type, key_.n_kv, n_queries), "mask");
        if (h_.temperature_scale != 0.0f) {
            g_.query_scale = input(ggml_new_tensor_3d(c_, GGML_TYPE_F32, 1, 1, n), "query_scale");
        }
        if (key_.lora) {
            g_.lora_scale = input(ggml_new_tensor_2d(c_, GGML_TYPE_F32, 1, n), "lora_scale");
        }
        if (key_.select && key_.n_out > 0) {
            g_.out_rows = input(ggml_new_tensor_1d(c_, GGML_TYPE_I32, key_.n_out), "out_rows");
        }
    }

    ggml_tensor * norm(ggml_tensor * x, ggml_tensor * weight) {
        return ggml_mul(c_, ggml_rms_norm(c_, x, h_.rms_eps), weight);
    }

    ggml_tensor * rope(ggml_tensor * x, int n_head) {
        const Rope & r = h_.rope;
        return ggml_rope_ext(c_, ggml_reshape_3d(c_, x, h_.head_dim, n_head, key_.n_rows), g_.positions, nullptr,
                             r.n_dims, GGML_ROPE_TYPE_NORMAL, r.n_ctx_orig, r.freq_base, r.freq_scale, r.ext_factor,
                             r.attn_factor, r.beta_fast, r.beta_slow);
    }

    // [head_dim, n_kv, n_head_kv], read through the result of set_rows: write before read is an edge of the graph.
    ggml_tensor * cached(ggml_tensor * written) {
        ggml_tensor * view = ggml_view_3d(c_, written, h_.head_dim, h_.n_head_kv, key_.n_kv,
                                          ggml_row_size(written->type, h_.head_dim), written->nb[1], 0);
        return ggml_permute(c_, view, 0, 2, 1, 3);
    }

    ggml_tensor * store(ggml_tensor * cache, ggml_tensor * rows) {
        ggml_tensor * flat = ggml_reshape_2d(c_, rows, int64_t(h_.head_dim) * h_.n_head_kv, key_.n_rows);
        ggml_tensor * written = ggml_set_rows(c_, cache, flat, g_.cells);
        ggml_build_forward_expand(g_.graph, written);
        return written;
    }

    // Returns null when only the keys and values are wanted.
    ggml_tensor * attention(ggml_tensor * x, int il, bool store_only) {
        const Layer & layer = model_.layers()[il];
        ggml_tensor * in = norm(x, layer.attn_norm);
        ggml_tensor * k = store(cache_.k(il), rope(ggml_mul_mat(c_, layer.wk, in), h_.n_head_kv));
        ggml_tensor * v = store(cache_.v(il), ggml_mul_mat(c_, layer.wv, in));
        if (store_only) {
            return nullptr;
        }
        ggml_tensor * q = rope(ggml_mul_mat(c_, layer.wq, in), h_.n_head);
        if (g_.query_scale) {
            q = ggml_mul(c_, q, g_.query_scale);
        }
        return project(attend(q, cached(k), cached(v)), layer.wo, il);
    }

    // q [head_dim, n_head, n_rows] -> [n_head * head_dim, n_rows]
    ggml_tensor * attend(ggml_tensor * q, ggml_tensor * k, ggml_tensor * v) {
        ggml_tensor * result = nullptr;
        int first_query = 0;
        for (const AttentionPiece & piece : pieces_) {
            ggml_tensor * a = attend_piece(q, k, v, piece, first_query);
            result = result ? ggml_concat(c_, result, a, 1) : a;
            first_query += piece.padded;
        }
        return result;
    }

    ggml_tensor * attend_piece(ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, const AttentionPiece & piece,
                               int first_query) {
        if (piece.count < key_.n_rows) {
            q = ggml_view_3d(c_, q, q->ne[0], q->ne[1], piece.count, q->nb[1], q->nb[2], piece.begin * q->nb[2]);
        }
        if (piece.padded > piece.count) {
            q = ggml_pad(c_, q, 0, 0, piece.padded - piece.count, 0);
        }
        ggml_tensor * mask = g_.mask;
        if (piece.padded < mask->ne[1]) {
            mask = ggml_view_2d(c_, mask, mask->ne[0], piece.padded, mask->nb[1], first_query * mask->nb[1]);
        }
        q = ggml_permute(c_, q, 0, 2, 1, 3);  // [head_dim, padded, n_head]
        ggml_tensor * a = options_.flash_attn ? flash(q, k, v, mask) : exact(q, k, v, mask);
        return piece.padded > piece.count ? ggml_view_2d(c_, a, a->ne[0], piece.count, a->nb[1], 0) : a;
    }

    float kq_scale() const { return 1.0f / std::sqrt(static_cast<float>(h_.head_dim)); }

    ggml_tensor * flash(ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * mask) {
        ggml_tensor * a = ggml_flash_attn_ext(c_, q, k, v, mask, kq_scale(), 0.0f, 0.0f);
        ggml_prec_set_acc(a, GGML_PREC_F32);
        return ggml_reshape_2d(c_, a, int64_t(h_.n_head) * h_.head_dim, q->ne[1]);
    }

    ggml_tensor * exact(ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * mask) {
        ggml_tensor * scores = ggml_mul_mat(c_, k, q);
        ggml_prec_set_acc(scores, GGML_PREC_F32);
        scores = ggml_soft_max_ext(c_, scores, mask, kq_scale(), 0.0f);
        ggml_tensor * a = ggml_mul_mat(c_, ggml_cont(c_, ggml_transpose(c_, v)), scores);
        return ggml_cont_2d(c_, ggml_permute(c_, a, 0, 2, 1, 3), int64_t(h_.n_head) * h_.head_dim, q->ne[1]);
    }

    // o_proj, with the drafter's delta on the rows whose scale is not 0 (bit-identical to none where it is 0).
    ggml_tensor * project(ggml_tensor * a, ggml_tensor * wo, int il) {
        ggml_tensor * out = ggml_mul_mat(c_, wo, a);
        if (!key_.lora) {
            return out;
        }
        const DrafterLora::Delta & delta = model_.lora()->layer(il);
        ggml_tensor * low = ggml_mul(c_, ggml_mul_mat(c_, delta.a, a), g_.lora_scale);
        return ggml_add(c_, out, ggml_mul_mat(c_, delta.b, low));
    }

    ggml_tensor * feed_forward(ggml_tensor * x, const Layer & layer) {
        ggml_tensor * in = norm(x, layer.ffn_norm);
        ggml_tensor * gate = ggml_mul_mat(c_, layer.ffn_gate, in);
        ggml_tensor * up = ggml_mul_mat(c_, layer.ffn_up, in);
        return ggml_add(c_, ggml_mul_mat(c_, layer.ffn_down, ggml_swiglu_split(c_, gate, up)), x);
    }

    const Model & model_;
    const Hparams & h_;
    const KvCache & cache_;
    const GraphOptions & options_;
    const GraphKey & key_;
    Graph g_;
    std::vector<AttentionPiece> pieces_;
    ggml_context * c_ = nullptr;
};

}  // namespace

std::vector<AttentionPiece> attention_pieces(int n_rows, int n_tiled, bool bit_stable) {
    if (!bit_stable) {
        return {{0, n_rows, n_rows}};
    }
    std::vector<AttentionPiece> pieces;
    if (n_tiled > 0) {
        pieces.push_back({0, n_tiled, std::max(n_tiled, TILE_ROWS)});
    }
    for (int begin = n_tiled; begin < n_rows; begin += TILE_ROWS - 1) {
        const int count = std::min(n_rows - begin, TILE_ROWS - 1);
        pieces.push_back({begin, count, std::max(count, 2)});
    }
    return pieces;
}

Graph build_graph(const Model & model, const KvCache & cache, const GraphOptions & options, const GraphKey & key) {
    return Builder(model, cache, options, key).build();
}

}  // namespace trimode
