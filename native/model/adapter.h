// A LoRA of the user: low-rank deltas on the matrices of layers, for all rows of the requests that ask for it.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ggml-cpp.h"
#include "model/layer.h"

namespace trimode {

namespace products {
class PackedWeight;
}

constexpr int MAX_ADAPTERS = 32;  // of a model

class Adapter {
  public:
    // A factor [n_in, n_out] in F32: for our own products where the weight is packed, else a tensor on its device.
    struct Factor {
        ggml_tensor * tensor = nullptr;
        std::unique_ptr<products::PackedWeight> packed;
    };
    // What is added to a product with a weight: b (a x), alpha / rank being in b.
    struct Delta {
        Factor a;  // [n_in, rank]
        Factor b;  // [rank, n_out]
    };

    // Loads a llama.cpp LoRA adapter (GGUF) on any of the seven matrices of any layers. `pack`: for our own products,
    // where the weight is on the CPU. With `no_alloc` shapes, types and devices only.
    // Throws std::runtime_error naming the file and the key or tensor that is wrong.
    Adapter(const std::string & path, const std::vector<Layer> & layers, bool pack, bool no_alloc);
    ~Adapter();

    const Delta * find(const ggml_tensor * weight) const;  // null where the weight is not adapted

    // What is not packed; of these, whether some are multiplied by ggml on the CPU.
    const std::vector<const ggml_tensor *> & tensors() const { return tensors_; }
    bool has_float_weights() const { return has_float_weights_; }

  private:
    ggml_context_ptr ctx_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    std::unordered_map<const ggml_tensor *, Delta> deltas_;
    std::vector<const ggml_tensor *> tensors_;
    bool has_float_weights_ = false;
};

}  // namespace trimode
