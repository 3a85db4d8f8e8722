// Loops over a whole row of logits, a vocabulary of 131,072 as a rule: written so that compilers vectorize them.
#pragma once

#include <vector>

#include "llama.h"

namespace trimode {

constexpr int WEIGHT_BLOCK = 1024;  // weights are summed up by blocks, which a draw looks at first

inline size_t n_blocks(size_t n) { return (n + WEIGHT_BLOCK - 1) / WEIGHT_BLOCK; }

// weights[i] = exp((logits[i] - highest) / temperature), 0 below 1e-37 and for NaN; `highest` is the highest of n
// logits. Relative error 2e-7. `sums`: of each block.
void exponentiate(const float * logits, size_t n, float highest, float temperature, float * weights, double * sums);

// A higher logit first, the lower id among equals.
inline bool is_higher(const llama_token_data & a, const llama_token_data & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// The `count` highest of n logits, in no order; `excluded` (the mask id, or -1) and logits of -infinity or NaN are left
// out.
void collect_highest(const float * logits, int n, llama_token excluded, size_t count,
                     std::vector<llama_token_data> & out);

// All logits of at least `floor`, by rising id, with the same exceptions.
void collect_from(const float * logits, int n, llama_token excluded, float floor, std::vector<llama_token_data> & out);

// Leaves the `count` highest.
void keep_highest(std::vector<llama_token_data> & candidates, size_t count);

}  // namespace trimode
