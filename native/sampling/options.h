// What a request asks of the sampler.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama.h"

namespace trimode {

// Names of this project's option table (pytrimode/options/sampling.py); defaults of llama.cpp, except temperature: 0 is
// greedy.
struct SamplerOptions {
    float temperature = 0.0f;
    int top_k = 40;  // <= 0: off
    float top_p = 0.95f;
    float min_p = 0.05f;
    float typical_p = 1.0f;
    float repeat_penalty = 1.0f;
    float frequency_penalty = 0.0f;
    float presence_penalty = 0.0f;
    int penalty_last_n = 64;
    float dry_multiplier = 0.0f;  // 0: off
    float dry_base = 1.75f;
    int dry_allowed_length = 2;
    int dry_penalty_last_n = -1;  // -1: the context
    std::vector<std::string> dry_sequence_breakers{"\n", ":", "\"", "*"};
    std::vector<llama_logit_bias> logit_bias;
    int min_tokens = 0;              // before so many are emitted, none of `ends` may be
    std::vector<llama_token> ends;   // needed with min_tokens only
    std::string grammar;             // in llguidance's Lark syntax; empty: none
    llama_token grammar_after = -1;  // the token behind which it begins; -1: at once
    uint64_t seed = 0;
    bool coupled = false;  // Gumbel-max with shared noise instead of rejection sampling

    bool greedy() const { return temperature <= 0.0f; }
    bool has_penalties() const {
        return penalty_last_n > 0 && (repeat_penalty != 1.0f || frequency_penalty != 0.0f || presence_penalty != 0.0f);
    }
    bool has_dry() const { return dry_multiplier > 0.0f; }

    // Whether what was emitted before, or a bias, changes some logits.
    bool changes_logits() const { return has_penalties() || has_dry() || !logit_bias.empty(); }

    // Whether there is something for block diffusion too, where nobody knows what is emitted before a token.
    bool changes_blocks() const { return !logit_bias.empty() || min_tokens > 0; }

    // True when the target is the argmax of the raw logits: no row of logits is needed then.
    bool plain_argmax() const { return greedy() && !changes_logits() && min_tokens == 0 && grammar.empty(); }

    // Whether the n highest logits of a row (and not all of them) decide the target: what survives top-k is among them,
    // whatever penalties have lowered.
    bool decided_by(int n) const {
        const bool raises = repeat_penalty < 1.0f || frequency_penalty < 0.0f || presence_penalty < 0.0f;
        const int lowered = has_penalties() ? penalty_last_n : 0;
        const int kept = greedy() ? 1 : top_k;
        return grammar.empty() && !changes_blocks() && !has_dry() && !raises && kept > 0 && kept + lowered <= n;
    }

    // Throws std::invalid_argument that names an option out of range.
    void check() const;
};

}  // namespace trimode
