// A distribution over the tokens that survived truncation, and how tokens are drawn from it.
#pragma once

#include <cstdint>
#include <vector>

#include "llama.h"

namespace trimode {

struct Candidate {
    llama_token token;
    float probability;
};

class Distribution {
  public:
    Distribution() = default;
    explicit Distribution(std::vector<Candidate> candidates) : candidates_(std::move(candidates)) {}

    // Probability 1 for one token: greedy.
    static Distribution certain(llama_token token) { return Distribution({{token, 1.0f}}); }

    const std::vector<Candidate> & candidates() const { return candidates_; }
    float probability(llama_token token) const;  // 0 for tokens that did not survive

    // The token at which the cumulative sum passes u in (0, 1).
    llama_token draw(double u) const;

    // Gumbel-max: argmax of ln p + noise(seed, position, token). Distributed as p; the lowest id among equals.
    llama_token draw_gumbel(uint64_t seed, int32_t position) const;

    // Normalized max(0, p - q): what to draw from when a proposal from q was rejected
    // (Leviathan et al. 2023, Chen et al. 2023). p itself where rounding left nothing of the difference.
    Distribution residual(const Distribution & q) const;

  private:
    std::vector<Candidate> candidates_;
};

}  // namespace trimode
