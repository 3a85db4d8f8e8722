// A distribution over tokens, and how tokens are drawn from it.
#pragma once

#include <cstdint>
#include <vector>

#include "llama.h"

namespace trimode {

class Distribution {
  public:
    // Of no token: not valid.
    Distribution() = default;

    // Softmax of n logits at a temperature, `excluded` (the mask id, or -1) and logits that are NaN left out.
    static Distribution of_row(const float * logits, int n, llama_token excluded, float temperature);

    // Softmax over some candidates, in any order.
    static Distribution of_candidates(std::vector<llama_token_data> candidates, float temperature);

    // Probability 1 for one token: greedy.
    static Distribution certain(llama_token token);

    // Whether there is a token to draw: not where no logit was finite, or one was infinite.
    bool is_valid() const { return total_ > 0.0; }

    size_t size() const { return weights_.size(); }  // entries, some of which may have probability 0
    llama_token token(size_t i) const { return is_dense() ? static_cast<llama_token>(i) : tokens_[i]; }
    double probability_at(size_t i) const { return weights_[i] / total_; }

    double probability(llama_token token) const;  // 0 for tokens that did not survive

    // The token at which the cumulative sum, by rising id, passes u in (0, 1).
    llama_token draw(double u) const;

    // Gumbel-max: argmax of ln p + noise(seed, position, token). Distributed as p; the lowest id among equals.
    llama_token draw_gumbel(uint64_t seed, int32_t position) const;

    // Normalized max(0, p - q): what to draw from when a proposal from q was rejected
    // (Leviathan et al. 2023, Chen et al. 2023). p itself where rounding left nothing of the difference.
    Distribution residual(const Distribution & q) const;

  private:
    bool is_dense() const { return tokens_.empty(); }
    void sum_up();

    std::vector<llama_token> tokens_;  // rising; empty: the whole vocabulary
    std::vector<float> weights_;       // proportional to the probabilities
    std::vector<double> sums_;         // of WEIGHT_BLOCK weights each
    double total_ = 0.0;
};

}  // namespace trimode
