#include "truncation.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "../reduce.h"
#include "row.h"

namespace trimode {

namespace {

using Candidates = std::vector<llama_token_data>;

float highest_logit(const Candidates & candidates) {
    return std::max_element(candidates.begin(), candidates.end(),
                            [](const auto & a, const auto & b) { return a.logit < b.logit; })
        ->logit;
}

// exp(logit - highest) into p; returns the sum.
double weigh(Candidates & candidates, float highest) {
    const size_t n = candidates.size();
    std::vector<float> logits(n), weights(n);
    std::vector<double> sums(n_blocks(n));
    std::transform(candidates.begin(), candidates.end(), logits.begin(), [](const auto & c) { return c.logit; });
    exponentiate(logits.data(), n, highest, 1.0f, weights.data(), sums.data());
    double total = 0.0;
    for (size_t i = 0; i < n; ++i) {
        candidates[i].p = weights[i];
        total += weights[i];
    }
    return total;
}

// The shortest beginning, in the order `before`, whose weights together satisfy `enough`; all if they never do.
// A quickselect by weight: linear in the number of items.
template <typename Item, typename Before, typename Enough>
void keep_beginning(std::vector<Item> & items, Before before, Enough enough) {
    size_t low = 0, high = items.size();  // the last one to keep is in [low, high)
    double kept = 0.0;                    // of items before low
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        std::nth_element(items.begin() + low, items.begin() + middle, items.begin() + high, before);
        double more = 0.0;
        for (size_t i = low; i < middle; ++i) {
            more += items[i].p;
        }
        if (enough(kept + more)) {
            high = middle;
        } else {
            kept += more;
            low = middle;
        }
    }
    items.resize(high);
}

// Tokens whose surprise is the nearest to the expected one, until their probability is more than typical_p
// (Meister, Pimentel, Wiher and Cotterell 2022, "Locally Typical Sampling").
void keep_typical(Candidates & candidates, float typical_p) {
    struct Item {
        double distance;
        float p;
        llama_token_data candidate;
    };
    const float highest = highest_logit(candidates);
    const double total = weigh(candidates, highest);
    const auto surprise = [&](const llama_token_data & c) { return std::log(total) - (double(c.logit) - highest); };
    double entropy = 0.0;
    for (const llama_token_data & c : candidates) {
        entropy += c.p > 0.0f ? c.p / total * surprise(c) : 0.0;
    }
    std::vector<Item> items;
    items.reserve(candidates.size());
    for (const llama_token_data & c : candidates) {
        items.push_back({std::abs(surprise(c) - entropy), c.p, c});
    }
    const auto nearer = [](const Item & a, const Item & b) {
        return a.distance < b.distance || (a.distance == b.distance && is_higher(a.candidate, b.candidate));
    };
    keep_beginning(items, nearer, [&](double kept) { return kept > typical_p * total; });
    candidates.clear();
    for (const Item & item : items) {
        candidates.push_back(item.candidate);
    }
}

// `total`: of the weights exp(logit - highest) of everything that is there, which may be more than the candidates.
void keep_top_p(Candidates & candidates, float top_p, float highest, double total) {
    weigh(candidates, highest);
    keep_beginning(candidates, is_higher, [&](double kept) { return kept >= top_p * total; });
}

void keep_min_p(Candidates & candidates, float min_p) {
    const float floor = highest_logit(candidates) + std::log(min_p);
    const auto low = [&](const llama_token_data & c) { return c.logit < floor; };
    candidates.erase(std::remove_if(candidates.begin(), candidates.end(), low), candidates.end());
}

Distribution finished(Candidates candidates, const SamplerOptions & options) {
    if (options.min_p > 0.0f) {
        keep_min_p(candidates, options.min_p);
    }
    return Distribution::of_candidates(std::move(candidates), options.temperature);
}

// Below it no logit survives top-p and min-p. All of its kind together have less than the 1 - top_p that top-p leaves.
float floor_of(const SamplerOptions & o, int n, float highest, double total) {
    constexpr float ROUNDING = 1e-3f;
    float floor = -INFINITY;
    if (o.top_p < 1.0f) {
        floor = highest + static_cast<float>(std::log((1.0 - o.top_p) * total / n));
    }
    if (o.min_p > 0.0f) {
        floor = std::max(floor, highest + std::log(o.min_p));
    }
    return floor - ROUNDING;
}

// Without top-k and typical: only candidates that have a chance are looked at.
Distribution truncated_row(const float * logits, int n, llama_token excluded, float highest, const SamplerOptions & o) {
    double total = 0.0;
    if (o.top_p < 1.0f) {
        total = 1.0 / probability(logits, n, excluded, {0, highest});
    }
    Candidates candidates;
    collect_from(logits, n, excluded, floor_of(o, n, highest, total), candidates);
    if (o.top_p < 1.0f) {
        keep_top_p(candidates, o.top_p, highest, total);
    }
    return finished(std::move(candidates), o);
}

}  // namespace

Distribution truncated(Candidates candidates, const SamplerOptions & o) {
    if (o.greedy()) {
        return Distribution::certain(std::min_element(candidates.begin(), candidates.end(), is_higher)->id);
    }
    if (o.top_k > 0) {
        keep_highest(candidates, o.top_k);
    }
    if (o.typical_p < 1.0f) {
        keep_typical(candidates, o.typical_p);
    }
    if (o.top_p < 1.0f) {
        const float highest = highest_logit(candidates);
        const double total = weigh(candidates, highest);
        keep_top_p(candidates, o.top_p, highest, total);
    }
    return finished(std::move(candidates), o);
}

Distribution truncated(const float * logits, int n, llama_token excluded, const SamplerOptions & o) {
    const Top top = argmax(logits, n, excluded);
    if (top.logit == -INFINITY) {
        throw std::runtime_error("grammar and logit bias together allow no token");
    }
    if (o.greedy()) {
        return Distribution::certain(top.token);
    }
    if (o.top_k > 0 || o.typical_p < 1.0f) {
        Candidates candidates;
        if (o.top_k > 0) {
            collect_highest(logits, n, excluded, o.top_k, candidates);
        } else {
            collect_from(logits, n, excluded, -INFINITY, candidates);
        }
        return truncated(std::move(candidates), o);
    }
    if (o.top_p < 1.0f || o.min_p > 0.0f) {
        return truncated_row(logits, n, excluded, top.logit, o);
    }
    return Distribution::of_row(logits, n, excluded, o.temperature);
}

}  // namespace trimode
