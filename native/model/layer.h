// The weights of one decoder layer, each a tensor that libllama owns.
#pragma once

#include "ggml.h"

namespace trimode {

struct Layer {
    ggml_tensor * attn_norm;
    ggml_tensor * wq;
    ggml_tensor * wk;
    ggml_tensor * wv;
    ggml_tensor * wo;
    ggml_tensor * ffn_norm;
    ggml_tensor * ffn_gate;
    ggml_tensor * ffn_up;
    ggml_tensor * ffn_down;
};

}  // namespace trimode
