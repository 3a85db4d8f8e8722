// The Pixtral tower and the Mistral3 projector as a ggml graph: patches of one picture in, rows of the text model out.
#pragma once

#include "ggml-cpp.h"
#include "vision/tower_file.h"

namespace trimode {

struct TowerGraph {
    ggml_context_ptr ctx;
    ggml_cgraph * graph = nullptr;
    ggml_tensor * patches = nullptr;    // F32 [3 * 14 * 14, n], the four patches of a cell together
    ggml_tensor * positions = nullptr;  // I32 [2 * n]: rows of the patches, then columns
    ggml_tensor * rows = nullptr;       // F32 [n_embd_text, n / 4]
};

// Builds without allocating. `kv_type`: of the attention's keys and values, F32 or F16.
TowerGraph build_tower_graph(const TowerHparams & hparams, const TowerWeights & weights, int n_patches,
                             ggml_type kv_type);

}  // namespace trimode
