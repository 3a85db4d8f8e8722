#include "sampling/distribution.h"

#include <algorithm>
#include <cmath>

#include "sampling/random.h"
#include "sampling/row.h"
#include "util/reduce.h"
#include "util/vectorize.h"

namespace trimode {

namespace {

// The race of exponential(): who is first so far.
struct Race {
    uint64_t seed;
    int32_t position;
    llama_token first = -1;
    double time = INFINITY;

    void enter(llama_token token, double exponential, float weight) {
        if (weight > 0.0f && exponential / weight < time) {
            time = exponential / weight;
            first = token;
        }
    }
};

// Whether any of the tokens may beat `bound`: -ln u is at least 1 - u, of which the upper bits are known.
VECTORIZED bool any_may_win(const uint32_t * words, const float * weights, float bound) {
    constexpr float LESS_THAN_UNIT = 0x1p-31f * (1.0f - 0x1p-20f);  // of 31 bits; a little less, for rounding
    int any = 0;
    for (int i = 0; i < NOISE_GROUP; ++i) {
        const auto rest = static_cast<int32_t>(~words[i] >> 1);
        any |= static_cast<float>(rest) * LESS_THAN_UNIT <= weights[i] * bound;
    }
    return any != 0;
}

void run_dense(Race & race, const std::vector<float> & weights) {
    const auto n = static_cast<llama_token>(weights.size());
    uint32_t words[NOISE_GROUP];
    for (llama_token first = 0; first < n; first += NOISE_GROUP) {
        noise_words(race.seed, race.position, first, words);
        const llama_token end = std::min(n, first + NOISE_GROUP);
        const auto bound = static_cast<float>(race.time * (1.0 + 1e-6));
        if (end - first == NOISE_GROUP && !any_may_win(words, weights.data() + first, bound)) {
            continue;
        }
        for (llama_token token = first; token < end; ++token) {
            const double at_least = (~words[token - first]) * 0x1p-32;  // of 1 - u
            if (at_least <= weights[token] * race.time) {
                race.enter(token, exponential(race.seed, race.position, token, words[token - first]), weights[token]);
            }
        }
    }
}

}  // namespace

Distribution Distribution::of_row(const float * logits, int n, llama_token excluded, float temperature) {
    Distribution d;
    d.weights_.resize(n);
    d.sums_.resize(n_blocks(n));
    exponentiate(logits, n, argmax(logits, n, excluded).logit, temperature, d.weights_.data(), d.sums_.data());
    if (excluded >= 0 && excluded < n) {
        d.weights_[excluded] = 0.0f;
        const size_t begin = excluded / WEIGHT_BLOCK * WEIGHT_BLOCK;
        const size_t end = std::min<size_t>(n, begin + WEIGHT_BLOCK);
        double sum = 0.0;
        for (size_t i = begin; i < end; ++i) {
            sum += d.weights_[i];
        }
        d.sums_[begin / WEIGHT_BLOCK] = sum;
    }
    for (const double sum : d.sums_) {
        d.total_ += sum;
    }
    return d;
}

Distribution Distribution::of_candidates(std::vector<llama_token_data> candidates, float temperature) {
    std::sort(candidates.begin(), candidates.end(), [](const auto & a, const auto & b) { return a.id < b.id; });
    Distribution d;
    const size_t n = candidates.size();
    if (n == 0) {
        return d;
    }
    std::vector<float> logits(n);
    d.tokens_.resize(n);
    for (size_t i = 0; i < n; ++i) {
        d.tokens_[i] = candidates[i].id;
        logits[i] = candidates[i].logit;
    }
    d.weights_.resize(n);
    d.sums_.resize(n_blocks(n));
    const float highest = *std::max_element(logits.begin(), logits.end());
    exponentiate(logits.data(), n, highest, temperature, d.weights_.data(), d.sums_.data());
    for (const double sum : d.sums_) {
        d.total_ += sum;
    }
    return d;
}

Distribution Distribution::certain(llama_token token) {
    Distribution d;
    d.tokens_ = {token};
    d.weights_ = {1.0f};
    d.sum_up();
    return d;
}

void Distribution::sum_up() {
    sums_.assign(n_blocks(weights_.size()), 0.0);
    total_ = 0.0;
    for (size_t i = 0; i < weights_.size(); ++i) {
        sums_[i / WEIGHT_BLOCK] += weights_[i];
    }
    for (const double sum : sums_) {
        total_ += sum;
    }
}

double Distribution::probability(llama_token token) const {
    if (is_dense()) {
        return static_cast<size_t>(token) < weights_.size() ? probability_at(token) : 0.0;
    }
    const auto found = std::lower_bound(tokens_.begin(), tokens_.end(), token);
    return found != tokens_.end() && *found == token ? probability_at(found - tokens_.begin()) : 0.0;
}

llama_token Distribution::draw(double u) const {
    double left = u * total_;
    size_t block = 0;
    while (block + 1 < sums_.size() && left >= sums_[block]) {
        left -= sums_[block++];
    }
    size_t i = block * WEIGHT_BLOCK;
    const size_t end = std::min(weights_.size(), i + WEIGHT_BLOCK);
    while (i < end && (weights_[i] == 0.0f || left >= weights_[i])) {
        left -= weights_[i++];
    }
    // Where rounding leads behind the last weight of a block, it is the last one that counts.
    while (i == end || weights_[i] == 0.0f) {
        --i;
    }
    return token(i);
}

llama_token Distribution::draw_gumbel(uint64_t seed, int32_t position) const {
    Race race{seed, position};
    if (is_dense()) {
        run_dense(race, weights_);
        return race.first;
    }
    for (size_t i = 0; i < tokens_.size(); ++i) {
        race.enter(tokens_[i], exponential(seed, position, tokens_[i]), weights_[i]);
    }
    return race.first;
}

Distribution Distribution::residual(const Distribution & q) const {
    Distribution rest = *this;
    for (size_t i = 0; i < q.size(); ++i) {
        const llama_token token = q.token(i);
        size_t at = token;
        if (!is_dense()) {
            const auto found = std::lower_bound(tokens_.begin(), tokens_.end(), token);
            if (found == tokens_.end() || *found != token) {
                continue;
            }
            at = found - tokens_.begin();
        }
        rest.weights_[at] = std::max(0.0f, static_cast<float>(weights_[at] - q.probability_at(i) * total_));
    }
    rest.sum_up();
    return rest.total_ > 0.0 ? rest : *this;
}

}  // namespace trimode
