// The weights in main memory that our own products take (products/), packed once at loading.
#pragma once

#include <unordered_map>
#include <vector>

#include "ggml.h"
#include "products/products.h"

namespace trimode {

class PackedWeights {
  public:
    // Packs those of `tensors` that are in main memory and have a product, and gives the memory of the originals back:
    // of `kept`, which is read as it is, only where it is mapped from the file. With `no_alloc` nothing is packed.
    // Throws std::runtime_error when the memory is not there.
    PackedWeights(const std::vector<ggml_tensor *> & tensors, const ggml_tensor * kept, bool no_alloc);

    // Null for a weight that is left to ggml.
    const products::PackedWeight * find(const ggml_tensor * tensor) const;

    // Packs other data into a weight's place. Without effect for one that is left to ggml.
    void replace(const ggml_tensor * tensor, const void * data);

    // Keeps them in main memory (mlock). Throws as lock_memory does.
    size_t lock() const;

    // Whether the tensor's own data was given back.
    bool holds_alone(const ggml_tensor * tensor) const;

  private:
    struct Entry {
        products::PackedWeight weight;
        bool original_dropped;
    };
    std::unordered_map<const ggml_tensor *, Entry> entries_;
};

}  // namespace trimode
