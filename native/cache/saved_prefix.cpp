#include "cache/saved_prefix.h"

#include <stdexcept>
#include <string>

namespace trimode {

SavedPrefix save_prefix(const PrefixCache & prefixes, const KvCache & cache, const std::vector<llama_token> & tokens,
                        const std::vector<float> & lora_scales) {
    SavedPrefix saved;
    saved.n_layer = cache.n_layer();
    saved.k_bytes = cache.k_bytes();
    saved.v_bytes = cache.v_bytes();
    int n = 0;
    if (const CachedSequence * held = prefixes.find_idle(tokens, lora_scales, n)) {
        saved.tokens.assign(held->tokens.begin(), held->tokens.begin() + n);
        saved.k.resize(saved.n_layer * n * saved.k_bytes);
        saved.v.resize(saved.n_layer * n * saved.v_bytes);
        cache.read(held->cells(0, n), saved.k.data(), saved.v.data());
    }
    return saved;
}

void check_prefix_bytes(const KvCache & cache, size_t n_tokens, Bytes k, Bytes v) {
    const size_t n = n_tokens * cache.n_layer();
    if (k.size != n * cache.k_bytes() || v.size != n * cache.v_bytes()) {
        throw std::invalid_argument("keys and values of " + std::to_string(n_tokens) + " tokens have " +
                                    std::to_string(k.size) + " and " + std::to_string(v.size) +
                                    " bytes; this cache keeps " + std::to_string(n * cache.k_bytes()) + " and " +
                                    std::to_string(n * cache.v_bytes()));
    }
}

bool load_prefix(PrefixCache & prefixes, KvCache & cache, const std::vector<llama_token> & tokens, Bytes k, Bytes v,
                 const std::vector<float> & lora_scales) {
    const CachedSequence * sequence = prefixes.add_idle(tokens, lora_scales);
    if (sequence) {
        cache.write(sequence->cells(0, sequence->size()), k.data, v.data);
    }
    return sequence != nullptr;
}

}  // namespace trimode
