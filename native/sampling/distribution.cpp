#include "distribution.h"

#include <algorithm>
#include <cmath>

#include "random.h"

namespace trimode {

float Distribution::probability(llama_token token) const {
    for (const Candidate & c : candidates_) {
        if (c.token == token) {
            return c.probability;
        }
    }
    return 0.0f;
}

llama_token Distribution::draw(double u) const {
    double total = 0.0;
    for (const Candidate & c : candidates_) {
        total += c.probability;
    }
    double cumulative = 0.0;
    llama_token last = candidates_.front().token;
    for (const Candidate & c : candidates_) {
        if (c.probability <= 0.0f) {
            continue;
        }
        last = c.token;
        cumulative += c.probability;
        if (cumulative > u * total) {
            break;
        }
    }
    return last;
}

llama_token Distribution::draw_gumbel(uint64_t seed, int32_t position) const {
    llama_token best = -1;
    double highest = -INFINITY;
    for (const Candidate & c : candidates_) {
        if (c.probability <= 0.0f) {
            continue;
        }
        const double value = std::log(static_cast<double>(c.probability)) + gumbel(seed, position, c.token);
        if (value > highest || (value == highest && c.token < best)) {
            highest = value;
            best = c.token;
        }
    }
    return best;
}

Distribution Distribution::residual(const Distribution & q) const {
    std::vector<Candidate> rest;
    double total = 0.0;
    for (const Candidate & c : candidates_) {
        const float excess = c.probability - q.probability(c.token);
        if (excess > 0.0f) {
            rest.push_back({c.token, excess});
            total += excess;
        }
    }
    if (total <= 0.0) {
        return *this;
    }
    for (Candidate & c : rest) {
        c.probability = static_cast<float>(c.probability / total);
    }
    return Distribution(std::move(rest));
}

}  // namespace trimode
