// The tri-mode decoder as a ggml graph: Ministral-3 blocks over an explicit cache, the attention pattern an input.
#pragma once

#include <memory>
#include <tuple>

#include "ggml.h"

namespace trimode {

class KvCache;
class Model;

struct GraphKey {
    int n_rows;
    int n_out;  // rows whose logits are wanted; 0 leaves out everything behind the last layer's keys and values
    int n_kv;   // cells the attention reads
    bool lora;

    bool operator<(const GraphKey & o) const {
        return std::tie(n_rows, n_out, n_kv, lora) < std::tie(o.n_rows, o.n_out, o.n_kv, o.lora);
    }
};

struct GraphOptions {
    bool flash_attn = true;
    // Attend with every query row doubled where a pass has one: ggml's CPU kernel splits the cells of a single row
    // among threads at 512 cells and more, which is not bit-equal to the same row among others.
    bool double_single_row = true;
};

struct Graph {
    struct Free {
        void operator()(ggml_context * p) const { ggml_free(p); }
    };
    std::unique_ptr<ggml_context, Free> ctx;
    ggml_cgraph * graph = nullptr;

    // Inputs
    ggml_tensor * tokens = nullptr;       // I32 [n_rows]
    ggml_tensor * positions = nullptr;    // I32 [n_rows]
    ggml_tensor * cells = nullptr;        // I64 [n_rows], where keys and values go
    ggml_tensor * mask = nullptr;         // F16 (F32 without flash attention) [n_kv, n_rows or 2]: 0 visible, -inf not
    ggml_tensor * query_scale = nullptr;  // F32 [1, 1, n_rows]; null for models without
    ggml_tensor * lora_scale = nullptr;   // F32 [1, n_rows]: alpha / rank on draft rows, 0 elsewhere
    ggml_tensor * out_rows = nullptr;     // I32 [n_out]; null when all rows are wanted
    // Output
    ggml_tensor * logits = nullptr;  // F32 [n_vocab, n_out]; null when n_out is 0
};

// Builds without allocating.
Graph build_graph(const Model & model, const KvCache & cache, const GraphOptions & options, const GraphKey & key);

}  // namespace trimode
