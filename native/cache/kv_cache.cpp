#include "cache/kv_cache.h"

#include <cstring>

#include "model/model.h"
#include "model/placement.h"

namespace trimode {

KvCache::KvCache(const Model & model, int n_cells, ggml_type type_k, ggml_type type_v) {
    const Hparams & h = model.hparams();
    ctx_.reset(ggml_init({ggml_tensor_overhead() * 2 * size_t(h.n_layer), nullptr, /*no_alloc=*/true}));
    Placement placement(model.no_alloc());
    const int64_t width = int64_t(h.n_head_kv) * h.head_dim;
    for (const Layer & layer : model.layers()) {
        k_.push_back(ggml_new_tensor_2d(ctx_.get(), type_k, width, n_cells));
        v_.push_back(ggml_new_tensor_2d(ctx_.get(), type_v, width, n_cells));
        placement.add(k_.back(), layer.wk);
        placement.add(v_.back(), layer.wk);
    }
    buffers_ = placement.allocate();
    bytes_ = placement.bytes();
}

namespace {

// Calls copy(tensor, bytes, offset, size) for each run of neighbouring cells in each layer: few copies, long ones.
template <typename Byte, typename Copy>
void for_each_run(const std::vector<ggml_tensor *> & layers, const std::vector<int32_t> & cells, Byte * bytes,
                  Copy copy) {
    for (ggml_tensor * tensor : layers) {
        const size_t row = tensor->nb[1];
        for (size_t begin = 0, end; begin < cells.size(); begin = end) {
            end = begin + 1;
            while (end < cells.size() && cells[end] == cells[end - 1] + 1) {
                ++end;
            }
            copy(tensor, bytes, cells[begin] * row, (end - begin) * row);
            bytes += (end - begin) * row;
        }
    }
}

// On the device that has them; on the CPU in main memory.
void copy_bytes(ggml_tensor * tensor, size_t from, size_t to, size_t size) {
    if (ggml_backend_buffer_is_host(tensor->buffer)) {
        std::memmove(static_cast<uint8_t *>(tensor->data) + to, static_cast<uint8_t *>(tensor->data) + from, size);
        return;
    }
    const ggml_context_ptr views(ggml_init({2 * ggml_tensor_overhead(), nullptr, /*no_alloc=*/true}));
    const auto view = [&](size_t offset) {
        const int64_t n = static_cast<int64_t>(size / ggml_type_size(tensor->type)) * ggml_blck_size(tensor->type);
        ggml_tensor * made = ggml_view_1d(views.get(), tensor, n, offset);
        ggml_backend_view_init(made);
        return made;
    };
    ggml_backend_tensor_copy(view(from), view(to));
}

}  // namespace

void KvCache::copy(const std::vector<int32_t> & from, const std::vector<int32_t> & to) {
    for (const std::vector<ggml_tensor *> & layers : {k_, v_}) {
        for (ggml_tensor * tensor : layers) {
            const size_t row = tensor->nb[1];
            for (size_t i = 0; i < from.size(); ++i) {
                copy_bytes(tensor, from[i] * row, to[i] * row, row);
            }
        }
    }
}

void KvCache::read(const std::vector<int32_t> & cells, uint8_t * k, uint8_t * v) const {
    for_each_run(k_, cells, k, ggml_backend_tensor_get);
    for_each_run(v_, cells, v, ggml_backend_tensor_get);
}

void KvCache::write(const std::vector<int32_t> & cells, const uint8_t * k, const uint8_t * v) {
    for_each_run(k_, cells, k, ggml_backend_tensor_set);
    for_each_run(v_, cells, v, ggml_backend_tensor_set);
}

}  // namespace trimode
