// What the cache holds of a prompt, out of an idle slot and back into one.
#include <algorithm>
#include <stdexcept>

#include "engine.h"

namespace trimode {

CachedPrefix Engine::save_state(const std::vector<llama_token> & tokens) {
    const std::lock_guard<std::mutex> lock(mutex_);
    CachedPrefix prefix;
    prefix.n_layer = model_.hparams().n_layer;
    prefix.k_bytes = cache_.k_bytes();
    prefix.v_bytes = cache_.v_bytes();
    if (const Slot * slot = idle_slot(tokens)) {
        const std::vector<llama_token> & held = slot->sequence.tokens;
        const std::vector<int32_t> & cells = slot->sequence.cells;
        prefix.tokens.assign(held.begin(), std::mismatch(held.begin(), held.end(), tokens.begin(), tokens.end()).first);
        if (options_.exact_reuse) {
            prefix.tokens.resize(std::min<size_t>(prefix.tokens.size(), slot->sequence.n_prefilled));
        }
        const size_t n = prefix.tokens.size();
        prefix.k.resize(prefix.n_layer * n * prefix.k_bytes);
        prefix.v.resize(prefix.n_layer * n * prefix.v_bytes);
        cache_.read({cells.begin(), cells.begin() + n}, prefix.k.data(), prefix.v.data());
    }
    return prefix;
}

void Engine::load_state(const std::vector<llama_token> & tokens, const uint8_t * k, size_t k_size, const uint8_t * v,
                        size_t v_size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    check_tokens(tokens);
    const size_t n = tokens.size() * model_.hparams().n_layer;
    if (k_size != n * cache_.k_bytes() || v_size != n * cache_.v_bytes()) {
        throw std::invalid_argument("keys and values of " + std::to_string(tokens.size()) + " tokens have " +
                                    std::to_string(k_size) + " and " + std::to_string(v_size) +
                                    " bytes; this cache keeps " + std::to_string(n * cache_.k_bytes()) + " and " +
                                    std::to_string(n * cache_.v_bytes()));
    }
    Slot * slot = idle_slot(tokens);
    if (!slot) {
        throw std::runtime_error("no idle slot to load a state into: requests are running");
    }
    Sequence & sequence = slot->sequence;
    sequence.truncate(cache_, 0);
    sequence.tokens = tokens;
    for (size_t i = 0; i < tokens.size(); ++i) {
        sequence.cells.push_back(cache_.allocate());
    }
    sequence.n_prefilled = options_.exact_reuse ? sequence.size() : 0;
    cache_.write(sequence.cells, k, v);
}

}  // namespace trimode
