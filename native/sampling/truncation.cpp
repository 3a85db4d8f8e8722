#include "sampling/truncation.h"

#include <algorithm>
#include <cmath>

#include "sampling/row.h"
#include "sampling/stock_sampler.h"
#include "util/reduce.h"

namespace trimode {

namespace {

using Candidates = std::vector<llama_token_data>;

// `top_p`: of what the candidates have together.
Distribution by_chain(Candidates candidates, const SamplerOptions & o, double top_p) {
    const llama_sampler_ptr chain = make_chain();
    const auto add = [&](llama_sampler * sampler) { llama_sampler_chain_add(chain.get(), sampler); };
    if (o.top_k > 0) {
        add(llama_sampler_init_top_k(o.top_k));
    }
    if (o.typical_p < 1.0f) {
        add(llama_sampler_init_typical(o.typical_p, 1));
    }
    if (top_p < 1.0) {
        add(llama_sampler_init_top_p(static_cast<float>(top_p), 1));
    }
    if (o.min_p > 0.0f) {
        add(llama_sampler_init_min_p(o.min_p, 1));
    }
    // An order that does not depend on how the candidates were gathered.
    std::sort(candidates.begin(), candidates.end(), is_higher);
    apply(chain.get(), candidates, true);
    return Distribution::of_candidates(std::move(candidates), o.temperature);
}

// Without top-k and typical, candidates below a floor survive neither top-p nor min-p. Those that top-p would need to
// look at have at least (1 - top_p) / n: all that have less are together less than the 1 - top_p that it drops.
Distribution by_floor(const float * logits, int n, llama_token excluded, Top top, const SamplerOptions & o) {
    constexpr float ROUNDING = 1e-3f;
    Distribution all;
    float floor = o.min_p > 0.0f ? top.logit + std::log(o.min_p) : -INFINITY;
    if (o.top_p < 1.0f) {
        all = Distribution::of_row(logits, n, excluded, 1.0f);
        const double least = (1.0 - o.top_p) / n / all.probability(top.token);
        floor = std::max(floor, top.logit + static_cast<float>(std::log(least)));
    }
    Candidates candidates;
    collect_from(logits, n, excluded, floor - ROUNDING, candidates);
    if (o.top_p >= 1.0f) {
        return by_chain(std::move(candidates), o, 1.0);
    }
    double kept = 0.0;
    for (const llama_token_data & c : candidates) {
        kept += all.probability(c.id);
    }
    return by_chain(std::move(candidates), o, o.top_p / kept);
}

}  // namespace

Distribution truncated(Candidates candidates, const SamplerOptions & o) {
    if (candidates.empty()) {
        return {};
    }
    if (o.greedy()) {
        return Distribution::certain(std::min_element(candidates.begin(), candidates.end(), is_higher)->id);
    }
    return by_chain(std::move(candidates), o, o.top_p);
}

Distribution truncated(const float * logits, int n, llama_token excluded, const SamplerOptions & o) {
    const Top top = argmax(logits, n, excluded);
    if (!std::isfinite(top.logit)) {
        return {};
    }
    if (o.greedy()) {
        return Distribution::certain(top.token);
    }
    if (o.top_k > 0 || o.typical_p < 1.0f) {
        Candidates candidates;
        collect_highest(logits, n, excluded, o.top_k > 0 ? o.top_k : n, candidates);
        return by_chain(std::move(candidates), o, o.top_p);
    }
    if (o.top_p < 1.0f || o.min_p > 0.0f) {
        return by_floor(logits, n, excluded, top, o);
    }
    return Distribution::of_row(logits, n, excluded, o.temperature);
}

}  // namespace trimode
