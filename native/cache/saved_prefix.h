// Keys and values of the beginning of a prompt, out of the cache and back into it.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/prefix_cache.h"

namespace trimode {

struct SavedPrefix {
    std::vector<llama_token> tokens;
    size_t n_layer = 0, k_bytes = 0, v_bytes = 0;  // bytes of a cell in one layer
    std::vector<uint8_t> k, v;  // [n_layer, tokens.size(), k_bytes], [n_layer, tokens.size(), v_bytes]
};

struct Bytes {
    const uint8_t * data;
    size_t size;
};

// The longest beginning of `tokens` that an idle sequence has; empty where there is none.
SavedPrefix save_prefix(const PrefixCache & prefixes, const KvCache & cache, const std::vector<llama_token> & tokens,
                        const std::vector<float> & lora_scales);

// Throws std::invalid_argument for keys or values that have not as many bytes as `n_tokens` have in this cache.
void check_prefix_bytes(const KvCache & cache, size_t n_tokens, Bytes k, Bytes v);

// An idle sequence of such keys and values; false without room.
bool load_prefix(PrefixCache & prefixes, KvCache & cache, const std::vector<llama_token> & tokens, Bytes k, Bytes v,
                 const std::vector<float> & lora_scales);

}  // namespace trimode
