// The drafter LoRA: a low-rank delta on the attention output projection, applied to draft rows only.
#pragma once

#include <string>
#include <vector>

#include "ggml-cpp.h"
#include "model/hparams.h"
#include "model/layer.h"

namespace trimode {

class DrafterLora {
  public:
    struct Delta {
        ggml_tensor * a;  // [n_head * head_dim, rank]
        ggml_tensor * b;  // [rank, n_embd]
    };

    // Loads a llama.cpp LoRA adapter (GGUF) with a pair for every layer's attn_output, onto that layer's device;
    // with `no_alloc` shapes, types and devices only.
    // Throws std::runtime_error naming the file and the key or tensor that is wrong.
    DrafterLora(const std::string & path, const Hparams & hparams, const std::vector<Layer> & layers, bool no_alloc);

    const Delta & layer(int i) const { return deltas_[i]; }
    int rank() const { return rank_; }
    float scale() const { return scale_; }  // alpha / rank

  private:
    ggml_context_ptr ctx_;
    std::vector<ggml_backend_buffer_ptr> buffers_;
    std::vector<Delta> deltas_;
    int rank_ = 0;
    float scale_ = 0.0f;
};

}  // namespace trimode
