#include "attention/attention.h"

#include <algorithm>
#include <cmath>

namespace trimode {

namespace {

// A tile is split into stretches where its share of a pass is larger than a thread's by this: the others would wait.
constexpr int UNITS_PER_THREAD = 4;
constexpr size_t ALIGNMENT = 64;

CellType cell_type(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F32:
            return CellType::f32;
        case GGML_TYPE_F16:
            return CellType::f16;
        case GGML_TYPE_BF16:
            return CellType::bf16;
        case GGML_TYPE_Q8_0:
            return CellType::q8_0;
        case GGML_TYPE_Q4_0:
            return CellType::q4_0;
        default:
            return CellType::other;
    }
}

void copy_floats(const void * from, float * to, int64_t n) { std::copy_n(static_cast<const float *>(from), n, to); }

CellTensor cell_tensor(const ggml_tensor * t, int head_dim) {
    const auto to_float = t->type == GGML_TYPE_F32 ? copy_floats : ggml_get_type_traits(t->type)->to_float;
    return {static_cast<const uint8_t *>(t->data), t->nb[1], ggml_row_size(t->type, head_dim), cell_type(t->type),
            to_float};
}

void clear_sums(const AttentionTile & tile, float * sums) {
    const size_t n = tile.n_queries;
    std::fill_n(sums, n * (tile.width + 2), 0.0f);
    std::fill_n(sums + n * tile.width, n, -INFINITY);
}

}  // namespace

void Attention::Floats::resize(size_t n) {
    if (n <= size_) {
        return;
    }
    memory_.reset(new float[n + ALIGNMENT / sizeof(float)]);
    data_ = reinterpret_cast<float *>(GGML_PAD(reinterpret_cast<uintptr_t>(memory_.get()), ALIGNMENT));
    size_ = n;
}

Attention::Attention(const AttentionShape & shape, int n_threads, const AttentionKernel & kernel)
    : shape_(shape), kernel_(kernel) {
    width_ = GGML_PAD(shape.head_dim, LANES);
    max_queries_ = std::max(TILE / group(), 1) * group();
    for (int i = 0; i < shape.n_layer; ++i) {
        layers_.push_back(std::make_unique<Layer>());
        layers_.back()->owner = this;
    }
    use_threads(n_threads);
}

void Attention::use_threads(int n_threads) {
    n_threads_ = n_threads;
    scratch_.resize(std::max<size_t>(scratch_.size(), n_threads));
    for (Floats & scratch : scratch_) {
        scratch.resize(2 * sums_size(max_queries_, width_) + scratch_size(max_queries_, width_));
    }
}

void Attention::cut_tiles(const std::vector<AttentionRow> & rows) {
    tiles_.clear();
    views_.clear();
    const int max_rows = max_queries_ / group();
    for (const AttentionRow & row : rows) {
        const int n_cells = std::max(row.view.seen, row.view.end);
        views_.push_back(row.view);
        if (!tiles_.empty() && tiles_.back().pages == row.pages && tiles_.back().n_rows < max_rows) {
            ++tiles_.back().n_rows;
            tiles_.back().n_cells = std::max(tiles_.back().n_cells, n_cells);
        } else {
            tiles_.push_back({static_cast<int>(views_.size()) - 1, 1, n_cells, row.pages});
        }
    }
}

// The longest tiles first. Returns the number of their cells.
int64_t Attention::make_units() {
    std::stable_sort(tiles_.begin(), tiles_.end(), [](const Tile & a, const Tile & b) {
        return int64_t(a.n_cells) * a.n_rows > int64_t(b.n_cells) * b.n_rows;
    });
    int64_t n_cells = 0, work = 0;
    for (const Tile & tile : tiles_) {
        n_cells += tile.n_cells;
        work += int64_t(tile.n_cells) * tile.n_rows * shape_.n_head_kv;
    }
    units_.clear();
    n_counters_ = 0;
    size_t n_floats = 0;
    for (size_t i = 0; i < tiles_.size(); ++i) {
        Tile & tile = tiles_[i];
        const int n_stretches = (tile.n_cells + STRETCH - 1) / STRETCH;
        const bool split = n_threads_ > 1 && n_stretches > 1 &&
                           int64_t(tile.n_cells) * tile.n_rows * n_threads_ * UNITS_PER_THREAD > work;
        if (split) {
            tile.n_sums = n_stretches;
            tile.sums = n_floats;
            tile.counters = n_counters_;
            n_counters_ += shape_.n_head_kv;
            n_floats += n_stretches * shape_.n_head_kv * sums_size(tile.n_rows * group(), width_);
        }
        for (int stretch = 0; stretch < (split ? n_stretches : 1); ++stretch) {
            for (int head = 0; head < shape_.n_head_kv; ++head) {
                units_.push_back({static_cast<int>(i), head, stretch});
            }
        }
    }
    sums_.resize(n_floats);
    return n_cells;
}

int64_t Attention::prepare(const std::vector<AttentionRow> & rows) {
    cut_tiles(rows);
    const int64_t n_cells = make_units();
    const bool grown = n_counters_ > max_counters_;
    max_counters_ = std::max(max_counters_, n_counters_);
    for (const auto & layer : layers_) {
        layer->next = 0;
        if (grown) {
            layer->finished.reset(new std::atomic<int>[max_counters_]);
        }
        for (int i = 0; i < n_counters_; ++i) {
            layer->finished[i] = 0;
        }
    }
    return n_cells;
}

ggml_tensor * Attention::build(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, int layer) {
    ggml_tensor * args[] = {q, k, v};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, int64_t(shape_.n_head) * shape_.head_dim, q->ne[2], 1, 1, args, 3,
                          compute, GGML_N_TASKS_MAX, layers_[layer].get());
}

void Attention::compute(ggml_tensor * out, int thread, int, void * userdata) {
    Layer & layer = *static_cast<Layer *>(userdata);
    Attention & self = *layer.owner;
    if (thread < static_cast<int>(self.scratch_.size())) {  // any number of threads does all units
        self.compute_units(out, layer, self.scratch_[thread]);
    }
}

AttentionTile Attention::kernel_tile(const ggml_tensor * out, const Tile & tile, int kv_head) const {
    const ggml_tensor * q = out->src[0];
    AttentionTile made{};
    made.q_row = q->nb[2] / sizeof(float);
    made.q_head = q->nb[1] / sizeof(float);
    made.out_row = out->nb[1] / sizeof(float);
    made.out_head = shape_.head_dim;
    const size_t head = size_t(kv_head) * group();
    made.q = static_cast<const float *>(q->data) + tile.first_row * made.q_row + head * made.q_head;
    made.out = static_cast<float *>(out->data) + tile.first_row * made.out_row + head * made.out_head;
    made.rows = views_.data() + tile.first_row;
    made.n_rows = tile.n_rows;
    made.n_heads = group();
    made.head_dim = shape_.head_dim;
    made.n_queries = tile.n_rows * group();
    made.width = width_;
    made.n_cells = tile.n_cells;
    made.scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
    made.pages = tile.pages;
    made.kv_head = kv_head;
    made.k = cell_tensor(out->src[1], shape_.head_dim);
    made.v = cell_tensor(out->src[2], shape_.head_dim);
    return made;
}

void Attention::compute_units(ggml_tensor * out, Layer & layer, Floats & scratch) {
    const int n_units = static_cast<int>(units_.size());
    for (int i = layer.next++; i < n_units; i = layer.next++) {
        const Unit & unit = units_[i];
        const Tile & tile = tiles_[unit.tile];
        const AttentionTile task = kernel_tile(out, tile, unit.kv_head);
        if (tile.n_sums > 0) {
            compute_stretch(task, tile, unit.stretch, layer, scratch.data());
        } else {
            compute_whole(task, scratch.data());
        }
    }
}

void Attention::compute_whole(const AttentionTile & tile, float * scratch) {
    float * total = scratch;
    float * sums = total + sums_size(max_queries_, width_);
    clear_sums(tile, total);
    for (int stretch = 0; stretch * STRETCH < tile.n_cells; ++stretch) {
        kernel_.stretch(tile, stretch, sums, sums + sums_size(max_queries_, width_));
        kernel_.fold(tile, sums, total);
    }
    kernel_.finish(tile, total);
}

// The thread that finishes a head's last stretch folds them all.
void Attention::compute_stretch(const AttentionTile & tile, const Tile & split, int stretch, Layer & layer,
                                float * scratch) {
    const size_t size = sums_size(tile.n_queries, width_);
    float * sums = sums_.data() + split.sums + size * split.n_sums * tile.kv_head;
    kernel_.stretch(tile, stretch, sums + size * stretch, scratch);
    if (layer.finished[split.counters + tile.kv_head].fetch_add(1, std::memory_order_acq_rel) + 1 < split.n_sums) {
        return;
    }
    clear_sums(tile, scratch);
    for (int i = 0; i < split.n_sums; ++i) {
        kernel_.fold(tile, sums + size * i, scratch);
    }
    kernel_.finish(tile, scratch);
}

}  // namespace trimode
