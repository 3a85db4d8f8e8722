#include "speculation/ngram_acceptance.h"

#include <algorithm>
#include <cmath>

namespace trimode {

namespace {

constexpr std::array<int, 6> SHORTEST = {3, 4, 6, 9, 14, 24};               // matches of one rate
constexpr std::array<double, 6> AT_FIRST = {0.3, 0.4, 0.5, 0.6, 0.7, 0.8};  // low: drafts wait for some evidence
constexpr double PRIOR_WEIGHT = 4.0;                                        // observations
constexpr double MAX_PRIOR = 60.0;                                          // of another engine

}  // namespace

NgramAcceptance::NgramAcceptance(double memory) : keep_(std::exp(-1.0 / memory)), prior_(AT_FIRST) {}

NgramAcceptance::NgramAcceptance(const NgramAcceptance & prior, double memory) : NgramAcceptance(memory) {
    for (int i = 0; i < N_LENGTHS; ++i) {
        prior_[i] = prior.rate(SHORTEST[i]);
    }
}

int NgramAcceptance::length(int match) {
    const auto behind = std::upper_bound(SHORTEST.begin(), SHORTEST.end(), match);
    return std::max(static_cast<int>(behind - SHORTEST.begin()) - 1, 0);
}

void NgramAcceptance::observe(int match, bool right) {
    const int i = length(match);
    tried_[i] = tried_[i] * keep_ + 1.0;
    right_[i] = right_[i] * keep_ + right;
}

double NgramAcceptance::rate(int match) const {
    const int i = length(match);
    return (right_[i] + PRIOR_WEIGHT * prior_[i]) / (tried_[i] + PRIOR_WEIGHT);
}

double NgramAcceptance::tokens(int match, int n) const {
    double tokens = 1.0;
    double all = 1.0;
    for (int i = 0; i < n; ++i) {
        all *= rate(match + i);
        tokens += all;
    }
    return tokens;
}

std::vector<Learned::Share> NgramAcceptance::learned() const {
    std::vector<Learned::Share> ngrams;
    for (int i = 0; i < N_LENGTHS; ++i) {
        ngrams.push_back({tried_[i], right_[i]});
    }
    return ngrams;
}

void NgramAcceptance::restore(const std::vector<Learned::Share> & ngrams) {
    const std::vector<Learned::Share> shares = as_prior(ngrams, N_LENGTHS, MAX_PRIOR, "drafts read off the text");
    for (int i = 0; i < N_LENGTHS; ++i) {
        tried_[i] = shares[i][0];
        right_[i] = shares[i][1];
    }
}

}  // namespace trimode
