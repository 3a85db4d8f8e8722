#include "model/adapter.h"

#include <stdexcept>
#include <utility>

#include "ggml-backend.h"
#include "model/adapter_file.h"
#include "model/placement.h"
#include "products/products.h"

namespace trimode {

namespace {

constexpr int MOST_COLUMNS = 64;  // of a tile of any product

std::unordered_map<std::string, const ggml_tensor *> matrices_of(const std::vector<Layer> & layers) {
    std::unordered_map<std::string, const ggml_tensor *> found;
    for (const Layer & l : layers) {
        for (const ggml_tensor * w : {l.wq, l.wk, l.wv, l.wo, l.ffn_gate, l.ffn_up, l.ffn_down}) {
            found[ggml_get_name(w)] = w;
        }
    }
    return found;
}

// The next rank that our own products can sum over; 0 where there is none.
int padded_rank(int rank, int64_t n_in, int64_t n_out) {
    for (int padded = rank; padded < rank + MOST_COLUMNS; ++padded) {
        if (products::has_product(GGML_TYPE_F32, n_in, padded) && products::has_product(GGML_TYPE_F32, padded, n_out)) {
            return padded;
        }
    }
    return 0;
}

std::unique_ptr<products::PackedWeight> packed(const std::vector<float> & rows, int64_t n_in, int64_t n_out) {
    auto weight = std::make_unique<products::PackedWeight>(GGML_TYPE_F32, n_in, n_out);
    weight->allocate();
    weight->pack(rows.data(), 0, weight->n_tiles());
    return weight;
}

}  // namespace

Adapter::Adapter(const std::string & path, const std::vector<Layer> & layers, bool pack, bool no_alloc) {
    AdapterFile file(path);
    const std::vector<std::string> names = file.weights();
    const auto matrices = matrices_of(layers);
    ctx_.reset(ggml_init({ggml_tensor_overhead() * 2 * names.size(), nullptr, /*no_alloc=*/true}));
    Placement placement(no_alloc);
    std::vector<std::pair<std::string, const Delta *>> unpacked;
    for (const std::string & name : names) {
        const auto found = matrices.find(name);
        if (found == matrices.end()) {
            throw std::runtime_error(path + ": tensor " + name + ".lora_a adapts what the engine does not: of " +
                                     std::to_string(layers.size()) +
                                     " layers attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up and ffn_down");
        }
        const ggml_tensor * w = found->second;
        const int64_t n_in = w->ne[0], n_out = w->ne[1];
        const int rank = file.rank(name, n_in, n_out);
        Delta & delta = deltas_[w];
        const bool on_cpu = !device_of(w);
        if (const int padded = pack && on_cpu && !no_alloc ? padded_rank(rank, n_in, n_out) : 0; padded > 0) {
            delta.a.packed = packed(file.a(name, padded), n_in, padded);
            delta.b.packed = packed(file.b(name, padded), padded, n_out);
            continue;
        }
        has_float_weights_ |= on_cpu;
        delta.a.tensor = ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, n_in, rank);
        delta.b.tensor = ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, rank, n_out);
        for (ggml_tensor * t : {delta.a.tensor, delta.b.tensor}) {
            placement.add(t, w);
            tensors_.push_back(t);
        }
        unpacked.emplace_back(name, &delta);
    }
    buffers_ = placement.allocate();
    for (const auto & [name, delta] : unpacked) {
        if (no_alloc) {
            continue;
        }
        const int rank = static_cast<int>(delta->b.tensor->ne[0]);
        ggml_backend_tensor_set(delta->a.tensor, file.a(name, rank).data(), 0, ggml_nbytes(delta->a.tensor));
        ggml_backend_tensor_set(delta->b.tensor, file.b(name, rank).data(), 0, ggml_nbytes(delta->b.tensor));
    }
}

Adapter::~Adapter() = default;

const Adapter::Delta * Adapter::find(const ggml_tensor * weight) const {
    const auto found = deltas_.find(weight);
    return found == deltas_.end() ? nullptr : &found->second;
}

}  // namespace trimode
