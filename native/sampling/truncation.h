// Top-k, typical, top-p and min-p by llama.cpp's samplers, asked about no more candidates than may survive; then the
// temperature. Left to itself that chain looks at, and sorts, the whole vocabulary where top-k is off.
#pragma once

#include <vector>

#include "sampling/distribution.h"
#include "sampling/options.h"

namespace trimode {

// Of n logits, `excluded` (the mask id, or -1) and logits of -infinity left out. Throws std::runtime_error where that
// leaves nothing.
Distribution truncated(const float * logits, int n, llama_token excluded, const SamplerOptions & options);

// Of candidates, which are all there is: at least one, in any order.
Distribution truncated(std::vector<llama_token_data> candidates, const SamplerOptions & options);

}  // namespace trimode
