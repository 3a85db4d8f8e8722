#include "forward/graph.h"

#include <algorithm>
#include <bitset>
#include <cmath>

#include "attention/attention.h"
#include "cache/kv_cache.h"
#include "forward/batch.h"
#include "model/adapter.h"
#include "model/lora.h"
#include "model/model.h"

namespace trimode {

namespace {

constexpr size_t NODES_PER_LAYER = 64;  // without attention pieces, of which there may be many
constexpr size_t NODES_PER_PIECE = 20;
constexpr size_t NODES_PER_ADAPTER = 32;
constexpr int64_t SECTION = 64;  // inputs begin at multiples of so many elements: devices want aligned views

class Builder {
  public:
    Builder(const Model & model, const KvCache & cache, const GraphOptions & options, const GraphKey & key)
        : model_(model), h_(model.hparams()), cache_(cache), options_(options), key_(key) {
        const size_t n_adapters = std::bitset<MAX_ADAPTERS>(key.adapters).count();
        const size_t per_layer = NODES_PER_LAYER + NODES_PER_PIECE * key.pieces.size() + NODES_PER_ADAPTER * n_adapters;
        const size_t max_nodes = per_layer * (h_.n_layer + 1);
        const size_t bytes = ggml_tensor_overhead() * max_nodes + ggml_graph_overhead_custom(max_nodes, false);
        g_.ctx.reset(ggml_init({bytes, nullptr, /*no_alloc=*/true}));
        c_ = g_.ctx.get();
        g_.graph = ggml_new_graph_custom(c_, max_nodes, false);
    }

    Graph build() {
        make_inputs();
        if (options_.fused_stores) {
            ggml_build_forward_expand(g_.graph, g_.cells);  // else it would stand between the first ROPE and SET_ROWS
        }
        ggml_tensor * x = g_.embeddings ? g_.embeddings : ggml_get_rows(c_, model_.token_embd(), g_.tokens);
        for (int i = 0; i < h_.n_layer; ++i) {
            const bool last = i + 1 == h_.n_layer;
            ggml_tensor * attended = attention(x, i, last && key_.n_out == 0);
            if (!attended) {
                return std::move(g_);
            }
            if (last && g_.out_rows) {
                attended = ggml_get_rows(c_, attended, g_.out_rows);
                x = ggml_get_rows(c_, x, g_.out_rows);
                for (auto & [adapter, scale] : scales_) {
                    scale = ggml_get_rows(c_, scale, g_.out_rows);
                }
            }
            x = feed_forward(ggml_add(c_, attended, x), model_.layers()[i]);
        }
        x = norm(x, model_.output_norm());
        g_.logits = product(model_.output(), x);
        ggml_set_output(g_.logits);
        ggml_build_forward_expand(g_.graph, g_.logits);
        if (options_.reduce) {
            reduce();
        }
        return std::move(g_);
    }

  private:
    ggml_tensor * input(ggml_tensor * t, const char * name) {
        ggml_set_input(t);
        ggml_set_name(t, name);
        return t;
    }

    ggml_tensor * output(ggml_tensor * t) {
        ggml_set_output(t);
        ggml_build_forward_expand(g_.graph, t);
        return t;
    }

    // F32 [k, n_out]: row i's entries at index[0 .. k, i].
    ggml_tensor * entries_at(ggml_tensor * rows, ggml_tensor * index) {
        ggml_tensor * entries = ggml_reshape_3d(c_, rows, 1, rows->ne[0], rows->ne[1]);
        return ggml_reshape_2d(c_, ggml_get_rows(c_, entries, index), index->ne[0], rows->ne[1]);
    }

    ggml_tensor * at_top(ggml_tensor * rows) {
        return ggml_reshape_1d(c_, entries_at(rows, ggml_reshape_2d(c_, g_.top, 1, rows->ne[1])), rows->ne[1]);
    }

    void reduce() {
        ggml_tensor * logits = options_.token_bias ? ggml_add(c_, g_.logits, options_.token_bias) : g_.logits;
        g_.top = output(ggml_argmax(c_, logits));
        g_.top_logit = output(at_top(logits));
        if (key_.confidence) {
            g_.top_probability = output(at_top(ggml_soft_max(c_, logits)));
        }
        if (key_.candidates) {
            g_.candidates = output(ggml_top_k(c_, logits, std::min<int>(N_CANDIDATES, logits->ne[0])));
            g_.candidate_logits = output(entries_at(logits, g_.candidates));
        }
    }

    // Takes the next n elements of an input that is being laid out; returns where they begin.
    static int64_t take(int64_t & used, int64_t n) {
        const int64_t begin = used;
        used += GGML_PAD(n, SECTION);
        return begin;
    }

    void make_inputs() {
        const int n = key_.n_rows;
        make_ints(n);
        make_floats(n);
        if (!options_.attention) {
            int64_t size = 0;
            for (const AttentionPiece & piece : key_.pieces) {
                size += int64_t(piece.cells.count) * n;
            }
            const ggml_type type = options_.flash_attn ? GGML_TYPE_F16 : GGML_TYPE_F32;
            g_.mask = input(ggml_new_tensor_1d(c_, type, size), "mask");
        }
    }

    bool takes_embeddings() const { return options_.host_embedding || key_.embedded; }

    void make_ints(int n) {
        const bool select = key_.select && key_.n_out > 0;
        int64_t used = 0;
        const int64_t tokens = takes_embeddings() ? -1 : take(used, n);
        const int64_t positions = take(used, n);
        const int64_t cells = take(used, options_.fused_stores ? 2 * n : n);
        const int64_t out_rows = select ? take(used, key_.n_out) : -1;
        g_.ints = input(ggml_new_tensor_1d(c_, GGML_TYPE_I32, used), "ints");
        const auto view = [&](int64_t begin, int64_t size) {
            return begin < 0 ? nullptr : ggml_view_1d(c_, g_.ints, size, begin * sizeof(int32_t));
        };
        g_.tokens = view(tokens, n);
        g_.positions = view(positions, n);
        g_.cells = options_.fused_stores ? as_int64(view(cells, 2 * n)) : view(cells, n);
        g_.out_rows = view(out_rows, key_.n_out);
    }

    // The same bytes, two elements as one. Views keep their type, so ggml has no operation for it.
    static ggml_tensor * as_int64(ggml_tensor * view) {
        view->type = GGML_TYPE_I64;
        view->ne[0] /= 2;
        view->nb[0] = sizeof(int64_t);
        return view;
    }

    void make_floats(int n) {
        int64_t used = 0;
        const int64_t embeddings = takes_embeddings() ? take(used, int64_t(h_.n_embd) * n) : -1;
        const int64_t query_scale = h_.temperature_scale != 0.0f && !key_.unscaled ? take(used, n) : -1;
        const int64_t lora_scale = key_.lora ? take(used, n) : -1;
        std::vector<std::pair<int, int64_t>> adapters;
        for (int i = 0; i < MAX_ADAPTERS; ++i) {
            if (key_.adapters >> i & 1) {
                adapters.emplace_back(i, take(used, n));
            }
        }
        if (used == 0) {
            return;
        }
        g_.floats = input(ggml_new_tensor_1d(c_, GGML_TYPE_F32, used), "floats");
        const auto view = [&](int64_t begin, int64_t ne0, int64_t ne1, int64_t ne2) {
            constexpr size_t SIZE = sizeof(float);
            return begin < 0 ? nullptr
                             : ggml_view_3d(c_, g_.floats, ne0, ne1, ne2, ne0 * SIZE, ne0 * ne1 * SIZE, begin * SIZE);
        };
        g_.embeddings = view(embeddings, h_.n_embd, n, 1);
        g_.query_scale = view(query_scale, 1, 1, n);
        g_.lora_scale = view(lora_scale, 1, n, 1);
        for (const auto & [adapter, begin] : adapters) {
            g_.adapter_scales.emplace_back(adapter, view(begin, 1, n, 1));
        }
        scales_ = g_.adapter_scales;
    }

    // With the deltas of the adapters on the rows whose scale is not 0, as the drafter's in project().
    ggml_tensor * product(ggml_tensor * weight, ggml_tensor * x) {
        const products::PackedWeight * packed = model_.packed(weight);
        ggml_tensor * out = packed ? g_.products.multiply(c_, *packed, x) : ggml_mul_mat(c_, weight, x);
        for (const auto & [adapter, scale] : scales_) {
            if (const Adapter::Delta * delta = model_.adapters()[adapter]->find(weight)) {
                out = ggml_add(c_, out, product(delta->b, ggml_mul(c_, product(delta->a, x), scale)));
            }
        }
        return out;
    }

    ggml_tensor * product(const Adapter::Factor & factor, ggml_tensor * x) {
        return factor.packed ? g_.products.multiply(c_, *factor.packed, x) : ggml_mul_mat(c_, factor.tensor, x);
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

    // [head_dim, count, n_head_kv], read through the result of set_rows: write before read is an edge of the graph.
    ggml_tensor * cached(ggml_tensor * written, const CellRange & cells) {
        ggml_tensor * view =
            ggml_view_3d(c_, written, h_.head_dim, h_.n_head_kv, cells.count, ggml_row_size(written->type, h_.head_dim),
                         written->nb[1], cells.begin * written->nb[1]);
        return ggml_permute(c_, view, 0, 2, 1, 3);
    }

    ggml_tensor * store(ggml_tensor * cache, ggml_tensor * rows) {
        const int64_t width = int64_t(h_.head_dim) * h_.n_head_kv;
        ggml_tensor * flat = options_.fused_stores
                                 ? ggml_view_2d(c_, rows, width, key_.n_rows, width * sizeof(float), 0)
                                 : ggml_reshape_2d(c_, rows, width, key_.n_rows);
        ggml_tensor * written = ggml_set_rows(c_, cache, flat, g_.cells);
        ggml_build_forward_expand(g_.graph, written);
        return written;
    }

    // Returns null when only the keys and values are wanted.
    ggml_tensor * attention(ggml_tensor * x, int il, bool store_only) {
        const Layer & layer = model_.layers()[il];
        ggml_tensor * in = norm(x, layer.attn_norm);
        ggml_tensor * k = store(cache_.k(il), rope(product(layer.wk, in), h_.n_head_kv));
        ggml_tensor * v = store(cache_.v(il), product(layer.wv, in));
        if (store_only) {
            return nullptr;
        }
        ggml_tensor * q = rope(product(layer.wq, in), h_.n_head);
        if (g_.query_scale) {
            q = ggml_mul(c_, q, g_.query_scale);
        }
        return project(options_.attention ? options_.attention->build(c_, q, k, v, il) : masked(q, k, v), layer.wo, il);
    }

    // q [head_dim, n_head, n_rows] -> [n_head * head_dim, n_rows]
    ggml_tensor * masked(ggml_tensor * q, ggml_tensor * k, ggml_tensor * v) {
        q = ggml_permute(c_, q, 0, 2, 1, 3);
        ggml_tensor * result = nullptr;
        int64_t begin = 0;
        for (const AttentionPiece & piece : key_.pieces) {
            const int64_t count = piece.cells.count;
            ggml_tensor * mask =
                ggml_view_2d(c_, g_.mask, count, key_.n_rows, count * g_.mask->nb[0], begin * g_.mask->nb[0]);
            ggml_tensor * a = options_.flash_attn ? flash(q, cached(k, piece.cells), cached(v, piece.cells), mask)
                                                  : exact(q, cached(k, piece.cells), cached(v, piece.cells), mask);
            a = only(a, piece.rows);
            result = result ? ggml_concat(c_, result, a, 1) : a;
            begin += count * key_.n_rows;
        }
        return result;
    }

    ggml_tensor * only(ggml_tensor * a, const RowRange & rows) {
        const int64_t n = rows.end - rows.begin;
        return n == a->ne[1] ? a : ggml_view_2d(c_, a, a->ne[0], n, a->nb[1], rows.begin * a->nb[1]);
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
        ggml_tensor * out = product(wo, a);
        if (!key_.lora) {
            return out;
        }
        const DrafterLora::Delta & delta = model_.lora()->layer(il);
        ggml_tensor * low = ggml_mul(c_, ggml_mul_mat(c_, delta.a, a), g_.lora_scale);
        return ggml_add(c_, out, ggml_mul_mat(c_, delta.b, low));
    }

    ggml_tensor * feed_forward(ggml_tensor * x, const Layer & layer) {
        ggml_tensor * in = norm(x, layer.ffn_norm);
        ggml_tensor * gate = product(layer.ffn_gate, in);
        ggml_tensor * up = product(layer.ffn_up, in);
        return ggml_add(c_, product(layer.ffn_down, ggml_swiglu_split(c_, gate, up)), x);
    }

    const Model & model_;
    const Hparams & h_;
    const KvCache & cache_;
    const GraphOptions & options_;
    const GraphKey & key_;
    Graph g_;
    std::vector<std::pair<int, ggml_tensor *>> scales_;  // g_.adapter_scales, of the rows that are left
    ggml_context * c_ = nullptr;
};

}  // namespace

Graph build_graph(const Model & model, const KvCache & cache, const GraphOptions & options, const GraphKey & key) {
    return Builder(model, cache, options, key).build();
}

}  // namespace trimode
