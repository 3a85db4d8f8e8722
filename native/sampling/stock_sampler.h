// llama.cpp's samplers, applied to vectors of candidates.
#pragma once

#include <vector>

#include "llama-cpp.h"

namespace trimode {

inline llama_sampler_ptr make_chain() {
    return llama_sampler_ptr(llama_sampler_chain_init(llama_sampler_chain_default_params()));
}

// Changes the candidates as the sampler says. `sorted`: whether the highest logit comes first.
inline void apply(llama_sampler * sampler, std::vector<llama_token_data> & candidates, bool sorted = false) {
    if (!candidates.empty()) {
        llama_token_data_array array{candidates.data(), candidates.size(), -1, sorted};
        llama_sampler_apply(sampler, &array);
        candidates.resize(array.size);
    }
}

}  // namespace trimode
