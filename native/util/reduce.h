// Reductions of one row of logits on the host.
#pragma once

#include "llama.h"

namespace trimode {

struct Top {
    llama_token token;  // the highest logit; the lowest id among equals
    float logit;
};

// Argmax over n logits; `excluded` (the mask id, or -1) is never chosen.
Top argmax(const float * logits, int n, llama_token excluded);

// The highest logit but that of `top`, with the same rules; -infinity where there is none.
Top runner_up(const float * logits, int n, llama_token excluded, Top top);

// Softmax probability of `top` without temperature, `excluded` left out of the sum.
float probability(const float * logits, int n, llama_token excluded, Top top);

}  // namespace trimode
