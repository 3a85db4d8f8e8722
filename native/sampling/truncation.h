// Top-k, typical, top-p, min-p and temperature, in the order of llama.cpp's sampler chain and with its definitions.
// Written anew because that chain sorts the whole vocabulary where top-k is off.
#pragma once

#include <vector>

#include "distribution.h"
#include "options.h"

namespace trimode {

// Of n logits, `excluded` (the mask id, or -1) and logits of -infinity left out. Throws std::runtime_error where that
// leaves nothing.
Distribution truncated(const float * logits, int n, llama_token excluded, const SamplerOptions & options);

// Of candidates, which are all there is: at least one, in any order.
Distribution truncated(std::vector<llama_token_data> candidates, const SamplerOptions & options);

}  // namespace trimode
