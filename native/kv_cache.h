// The key/value cache: one K and one V tensor per layer, cells handed out one by one.
#pragma once

#include <memory>
#include <vector>

#include "ggml-backend.h"
#include "ggml.h"
#include "llama.h"

namespace trimode {

class Model;

class KvCache {
  public:
    // Tensors of [n_head_kv * head_dim, n_cells] of the given types, each on the device of its layer's wk.
    // Throws std::runtime_error when the memory is not there. Without data where the model has none (no_alloc).
    KvCache(const Model & model, int n_cells, ggml_type type_k, ggml_type type_v);

    ggml_tensor * k(int layer) const { return k_[layer]; }
    ggml_tensor * v(int layer) const { return v_[layer]; }
    int n_cells() const { return static_cast<int>(used_.size()); }
    int n_free() const { return n_free_; }
    size_t bytes() const { return bytes_; }

    int32_t allocate();  // the lowest free cell; std::logic_error when full (callers check n_free)
    void release(int32_t cell);

    // Bytes of what one layer keeps in a cell.
    size_t k_bytes() const { return k_.front()->nb[1]; }
    size_t v_bytes() const { return v_.front()->nb[1]; }

    // Copies the stored bytes of cells, layer after layer: k is [n_layer, cells.size(), k_bytes()], v likewise.
    void read(const std::vector<int32_t> & cells, uint8_t * k, uint8_t * v) const;
    void write(const std::vector<int32_t> & cells, const uint8_t * k, const uint8_t * v);

  private:
    struct Free {
        void operator()(ggml_context * p) const { ggml_free(p); }
        void operator()(ggml_backend_buffer * p) const { ggml_backend_buffer_free(p); }
    };
    std::unique_ptr<ggml_context, Free> ctx_;
    std::vector<std::unique_ptr<ggml_backend_buffer, Free>> buffers_;
    std::vector<ggml_tensor *> k_, v_;
    size_t bytes_ = 0;
    std::vector<bool> used_;
    int n_free_ = 0;
    int32_t lowest_free_ = 0;
};

// What one slot has committed: token i stands at position i and its keys and values are in cells[i].
struct Sequence {
    std::vector<llama_token> tokens;
    std::vector<int32_t> cells;
    int n_prefilled = 0;  // so many of the first are, bit by bit, what a prefill of any longer prompt writes

    int size() const { return static_cast<int>(tokens.size()); }
    void truncate(KvCache & cache, int n);  // keeps the first n
};

}  // namespace trimode
