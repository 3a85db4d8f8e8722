// Top-k, typical, top-p and min-p by llama.cpp's samplers, asked about no more candidates than may survive; then the
// temperature. Left to itself that chain looks at, and sorts, the whole vocabulary where top-k is off.
#pragma once

#include <vector>

#include "sampling/distribution.h"
#include "sampling/options.h"

namespace trimode {

// Of n logits, `excluded` (the mask id, or -1) and logits of -infinity or NaN left out. Not valid where that leaves
// nothing.
Distribution truncated(const float * logits, int n, llama_token excluded, const SamplerOptions & options);

// Of candidates, which are all there is, in any order. Not valid without any.
Distribution truncated(std::vector<llama_token_data> candidates, const SamplerOptions & options);

}  // namespace trimode
