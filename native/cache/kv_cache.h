// The key/value cache: one K and one V tensor per layer. Whose its cells are: prefix_cache.h.
#pragma once

#include <vector>

#include "ggml-cpp.h"
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
    int n_layer() const { return static_cast<int>(k_.size()); }
    int n_cells() const { return static_cast<int>(k_.front()->ne[1]); }
    size_t bytes() const { return bytes_; }

    // Bytes of what one layer keeps in a cell.
    size_t k_bytes() const { return k_.front()->nb[1]; }
    size_t v_bytes() const { return v_.front()->nb[1]; }

    // Copies the stored bytes of cells, layer after layer: k is [n_layer, cells.size(), k_bytes()], v likewise.
    void read(const std::vector<int32_t> & cells, uint8_t * k, uint8_t * v) const;
    void write(const std::vector<int32_t> & cells, const uint8_t * k, const uint8_t * v);

    // Copies what the cells `from` hold to the cells `to`, in this order: a cell may be read before it is written to.
    void copy(const std::vector<int32_t> & from, const std::vector<int32_t> & to);

  private:
    ggml_context_ptr ctx_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    std::vector<ggml_tensor *> k_, v_;
    size_t bytes_ = 0;
};

}  // namespace trimode
