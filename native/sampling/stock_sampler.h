// A sampler of llama.cpp, or a chain of them, as a value that frees itself.
#pragma once

#include <memory>
#include <vector>

#include "llama.h"

namespace trimode {

struct FreeSampler {
    void operator()(llama_sampler * p) const { llama_sampler_free(p); }
};
using StockSampler = std::unique_ptr<llama_sampler, FreeSampler>;

inline StockSampler make_chain() {
    return StockSampler(llama_sampler_chain_init(llama_sampler_chain_default_params()));
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
