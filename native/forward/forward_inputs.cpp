// What a pass reads: tokens or embeddings, positions, cells, scales, and what each row sees.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "cache/kv_cache.h"
#include "forward/embedding.h"
#include "forward/forward.h"
#include "model/lora.h"
#include "util/stopwatch.h"

namespace trimode {

void Forward::set_tensor(ggml_tensor * tensor, const void * data) {
    if (tensor && tensor->buffer) {  // a tensor that no node reads has no memory
        ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
        times_.bytes_in += ggml_nbytes(tensor);
    }
}

void Forward::set_inputs(const Graph & graph, const Batch & batch, const GraphKey & key) {
    const Stopwatch watch(times_.inputs);
    set_ints(graph, batch, key);
    set_floats(graph, batch, key);
    if (attention_) {
        set_attention(batch, key.n_rows);
    } else {
        set_mask(graph, batch, key);
    }
}

void Forward::set_ints(const Graph & graph, const Batch & batch, const GraphKey & key) {
    ints_.assign(graph.ints->ne[0], 0);
    const auto part = [&](const ggml_tensor * view) { return view ? ints_.data() + view->view_offs / 4 : nullptr; };
    int32_t * tokens = part(graph.tokens);
    int32_t * positions = part(graph.positions);
    int32_t * cells = part(graph.cells);  // with fused_stores of int64_t
    int32_t * selected = part(graph.out_rows);
    for (int i = 0; i < key.n_rows; ++i) {
        const Row & row = batch.rows()[std::min(i, batch.size() - 1)];
        if (tokens) {
            tokens[i] = row.token;
        }
        positions[i] = row.pos;
        if (graph.cells->type == GGML_TYPE_I64) {
            reinterpret_cast<int64_t *>(cells)[i] = row.cell;
        } else {
            cells[i] = row.cell;
        }
    }
    for (int i = 0; selected && i < key.n_out; ++i) {
        selected[i] = out_rows_[std::min<size_t>(i, out_rows_.size() - 1)];
    }
    set_tensor(graph.ints, ints_.data());
}

void Forward::set_floats(const Graph & graph, const Batch & batch, const GraphKey & key) {
    if (!graph.floats) {
        return;
    }
    floats_.assign(graph.floats->ne[0], 0.0f);
    const auto part = [&](const ggml_tensor * view) { return view ? floats_.data() + view->view_offs / 4 : nullptr; };
    float * embeddings = part(graph.embeddings);
    float * query_scale = part(graph.query_scale);
    float * lora_scale = part(graph.lora_scale);
    std::vector<std::pair<size_t, float *>> adapters;
    for (const auto & [adapter, scale] : graph.adapter_scales) {
        adapters.emplace_back(adapter, part(scale));
    }
    for (int i = 0; i < key.n_rows; ++i) {
        const Row & row = batch.rows()[std::min(i, batch.size() - 1)];
        if (embeddings) {
            float * const to = embeddings + size_t(i) * model_.hparams().n_embd;
            if (ImageRows::is_image(row.token)) {
                const float * vector = options_.images ? options_.images->find(row.token) : nullptr;
                if (!vector) {
                    throw std::logic_error("a row of an image without its vector");
                }
                std::copy_n(vector, model_.hparams().n_embd, to);
            } else {
                embed(model_.token_embd(), row.token, to);
            }
        }
        if (query_scale) {
            query_scale[i] = model_.hparams().query_scale(row.pos);
        }
        if (lora_scale) {
            lora_scale[i] = row.lora ? model_.lora()->scale() : 0.0f;
        }
        const std::vector<float> & scales = row.sequence->lora_scales;
        for (const auto & [adapter, to] : adapters) {
            to[i] = adapter < scales.size() ? scales[adapter] : 0.0f;
        }
    }
    set_tensor(graph.floats, floats_.data());
}

void Forward::set_mask(const Graph & graph, const Batch & batch, const GraphKey & key) {
    for (const AttentionPiece & piece : key.pieces) {
        times_.cells += piece.cells.count;
    }
    if (!graph.mask->buffer) {
        return;
    }
    mask_buffer_.resize(ggml_nbytes(graph.mask));
    size_t begin = 0;
    for (const AttentionPiece & piece : key.pieces) {
        if (graph.mask->type == GGML_TYPE_F16) {
            fill_mask(batch, key.n_rows, piece, ggml_fp32_to_fp16(0.0f), ggml_fp32_to_fp16(-INFINITY),
                      reinterpret_cast<ggml_fp16_t *>(mask_buffer_.data()) + begin);
        } else {
            fill_mask(batch, key.n_rows, piece, 0.0f, -INFINITY,
                      reinterpret_cast<float *>(mask_buffer_.data()) + begin);
        }
        begin += size_t(piece.cells.count) * key.n_rows;
    }
    set_tensor(graph.mask, mask_buffer_.data());
}

// What each row sees, by the places of the cells in its sequence: all that is committed and the rows of its run, which
// follow; a branch also itself, further behind.
void Forward::set_attention(const Batch & batch, int n_rows) {
    const std::vector<Row> & rows = batch.rows();
    attention_rows_.clear();
    for (int i = 0; i < n_rows; ++i) {
        const Row & row = rows[std::min(i, batch.size() - 1)];
        const auto place = [&](const RowRange & range) {
            const int begin = range.begin < range.end ? rows[range.begin].place : 0;
            return RowRange{begin, begin + range.end - range.begin};
        };
        const RowRange group = place(row.group);
        attention_rows_.push_back({row.sequence->pages.data(), {place(row.sees).end, group.begin, group.end}});
    }
    times_.cells += attention_->prepare(attention_rows_);
}

}  // namespace trimode
