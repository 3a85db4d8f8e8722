// The tri-mode decoder as a ggml graph: Ministral-3 blocks over an explicit cache, the attention pattern an input.
#pragma once

#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "forward/mask.h"
#include "ggml-cpp.h"
#include "products/ops.h"

namespace trimode {

class Attention;
class KvCache;
class Model;

struct GraphKey {
    int n_rows;
    int n_out;  // rows whose logits are wanted; 0 leaves out what is behind the last layer's keys and values
    std::vector<AttentionPiece> pieces;  // of masked attention; none where GraphOptions::attention is set
    bool lora;                           // of the drafter
    uint32_t adapters;                   // a bit for each of the model's adapters that some row wants
    bool select;                         // logits of some rows only
    bool confidence;                     // with `reduce`: the probability of the highest logit too
    bool candidates;                     // with `reduce`: the N_CANDIDATES highest logits too
    bool unscaled;                       // no row's query scale differs from 1: that product is left out
    bool embedded;                       // rows of the token embedding are an input, rows of images among them

    bool operator<(const GraphKey & o) const {
        return std::tie(n_rows, n_out, pieces, lora, adapters, select, confidence, candidates, unscaled, embedded) <
               std::tie(o.n_rows, o.n_out, o.pieces, o.lora, o.adapters, o.select, o.confidence, o.candidates,
                        o.unscaled, o.embedded);
    }
};

struct GraphOptions {
    Attention * attention = nullptr;  // on the CPU; null: a device's own, with a mask ...
    bool flash_attn = true;           // ... in one operation, or by products of matrices
    // For a device: rows of the token embedding, which stays in main memory, are an input; argmax and probability are
    // computed where the logits are.
    bool host_embedding = false;
    bool reduce = false;
    // For a device: keys are stored as ROPE, VIEW, SET_ROWS with 64-bit cells, which ggml-cuda makes one kernel of (for
    // a cache of f16 or f32).
    bool fused_stores = false;
    ggml_tensor * token_bias = nullptr;  // F32 [n_vocab], added before reducing: -inf for the mask id; null: none
};

struct Graph {
    ggml_context_ptr ctx;
    ggml_cgraph * graph = nullptr;
    products::Ops products;

    // Inputs, in three tensors: a step's inputs go to a device in three copies. Those below are views of them.
    ggml_tensor * ints = nullptr;    // I32
    ggml_tensor * floats = nullptr;  // F32; null when there are none
    ggml_tensor * mask = nullptr;    // F16 (F32 without flash attention), piece by piece [cells.count, n_rows]:
                                     // 0 visible, -inf not; null with `attention`

    ggml_tensor * tokens = nullptr;       // I32 [n_rows]; null where embeddings are given
    ggml_tensor * positions = nullptr;    // I32 [n_rows]
    ggml_tensor * cells = nullptr;        // I32 [n_rows], where keys and values go; I64 with fused_stores
    ggml_tensor * out_rows = nullptr;     // I32 [n_out]; null when all rows are wanted
    ggml_tensor * embeddings = nullptr;   // F32 [n_embd, n_rows]; with host_embedding, or a key that is `embedded`
    ggml_tensor * query_scale = nullptr;  // F32 [1, 1, n_rows]; null for models without, and if `unscaled`
    ggml_tensor * lora_scale = nullptr;   // F32 [1, n_rows]: alpha / rank on draft rows, 0 elsewhere
    std::vector<std::pair<int, ggml_tensor *>> adapter_scales;  // of an adapter by its number: F32 [1, n_rows]

    // Outputs, null when n_out is 0
    ggml_tensor * logits = nullptr;            // F32 [n_vocab, n_out]
    ggml_tensor * top = nullptr;               // with `reduce`: I32 [n_out], argmax of the logits with token_bias
    ggml_tensor * top_logit = nullptr;         // F32 [n_out]
    ggml_tensor * top_probability = nullptr;   // F32 [n_out]; softmax without temperature; null without `confidence`
    ggml_tensor * candidates = nullptr;        // I32 [N_CANDIDATES, n_out], in no order; null without `candidates`
    ggml_tensor * candidate_logits = nullptr;  // F32 [N_CANDIDATES, n_out]
};

// Builds without allocating.
Graph build_graph(const Model & model, const KvCache & cache, const GraphOptions & options, const GraphKey & key);

}  // namespace trimode
