// Log-probabilities of an emitted token and of the most likely ones at its position.
#pragma once

#include <vector>

#include "sampling/distribution.h"

namespace trimode {

struct TokenLogprob {
    llama_token token;
    float logprob;  // natural logarithm; -infinity: impossible
};

struct PositionLogprobs {
    TokenLogprob chosen;
    std::vector<TokenLogprob> top;  // most likely first, the lowest id among equals
};

// Of a row of n_vocab logits: log-softmax without temperature, `excluded` (the mask id, or -1) left out.
PositionLogprobs logprobs(const float * logits, int n_vocab, llama_token excluded, llama_token chosen, int n_top);

// Of a target distribution, after the sampler chain.
PositionLogprobs logprobs(const Distribution & target, llama_token chosen, int n_top);

}  // namespace trimode
