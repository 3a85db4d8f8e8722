// Logits of given tokens, outside of any request: what evaluation and tests compare.
#pragma once

#include <algorithm>
#include <vector>

#include "forward/forward.h"

namespace trimode {

// Causal rows; from block_start (< 0: none) on rows that see each other in both directions, with the drafter LoRA when
// asked. The rows from `first` on are wanted. Keys and values of causal rows before it may come from the cache, where
// they have the same bits, and stay there; with first 0 nothing is taken and nothing stays.
struct LogitsQuery {
    std::vector<llama_token> tokens;
    int block_start = -1;
    bool lora = false;
    int first = 0;
    uint64_t cache_scope = 0;             // as a request's
    std::vector<float> lora_scales = {};  // of the model's adapters

    int size() const { return static_cast<int>(tokens.size()); }
    int n_causal() const { return block_start < 0 ? size() : std::min(block_start, size()); }

    // The beginning that may come from the cache, and one token more, which PrefixCache::acquire leaves out.
    std::vector<llama_token> reusable_prompt() const {
        const int n = std::min(first, n_causal());
        return {tokens.begin(), tokens.begin() + (n > 0 ? n + 1 : 0)};
    }
};

// [size - first, n_vocab]. The sequence holds a beginning of the tokens and has room for all; causal rows are committed
// to it. Passes have at most `n_batch` rows.
std::vector<float> compute_logits(const LogitsQuery & query, Sequence & sequence, Forward & forward, int n_vocab,
                                  int n_batch);

}  // namespace trimode
