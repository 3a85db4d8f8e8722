// What the cache holds of a prompt, out of it and back.
#include <stdexcept>

#include "engine/engine.h"

namespace trimode {

CachedPrefix Engine::save_state(const std::vector<llama_token> & tokens) {
    const std::lock_guard<std::mutex> lock(step_mutex_);
    take_wishes();
    CachedPrefix prefix;
    prefix.n_layer = model_.hparams().n_layer;
    prefix.k_bytes = cache_.k_bytes();
    prefix.v_bytes = cache_.v_bytes();
    int n = 0;
    if (const CachedSequence * held = sequences_.find_idle(tokens, n)) {
        prefix.tokens.assign(held->tokens.begin(), held->tokens.begin() + n);
        prefix.k.resize(prefix.n_layer * n * prefix.k_bytes);
        prefix.v.resize(prefix.n_layer * n * prefix.v_bytes);
        cache_.read(held->cells(0, n), prefix.k.data(), prefix.v.data());
    }
    return prefix;
}

void Engine::load_state(const std::vector<llama_token> & tokens, const uint8_t * k, size_t k_size, const uint8_t * v,
                        size_t v_size) {
    const std::lock_guard<std::mutex> lock(step_mutex_);
    take_wishes();
    check_tokens(tokens);
    const size_t n = tokens.size() * model_.hparams().n_layer;
    if (k_size != n * cache_.k_bytes() || v_size != n * cache_.v_bytes()) {
        throw std::invalid_argument("keys and values of " + std::to_string(tokens.size()) + " tokens have " +
                                    std::to_string(k_size) + " and " + std::to_string(v_size) +
                                    " bytes; this cache keeps " + std::to_string(n * cache_.k_bytes()) + " and " +
                                    std::to_string(n * cache_.v_bytes()));
    }
    CachedSequence * sequence = nullptr;
    if (static_cast<int>(running_.size()) < options_.n_parallel) {
        sequence = sequences_.add_idle(tokens);
    }
    if (!sequence) {
        throw std::runtime_error("no idle slot to load a state into: requests are running");
    }
    cache_.write(sequence->cells(0, sequence->size()), k, v);
}

}  // namespace trimode
