#include "sampling/logprobs.h"

#include <algorithm>
#include <cmath>

#include "util/reduce.h"

namespace trimode {

namespace {

void keep_top(std::vector<TokenLogprob> & all, int n_top) {
    const auto more_likely = [](const TokenLogprob & a, const TokenLogprob & b) {
        return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
    };
    const size_t n = std::min<size_t>(n_top, all.size());
    std::partial_sort(all.begin(), all.begin() + n, all.end(), more_likely);
    all.resize(n);
}

}  // namespace

PositionLogprobs logprobs(const float * logits, int n_vocab, llama_token excluded, llama_token chosen, int n_top) {
    const Top top = argmax(logits, n_vocab, excluded);
    const double log_sum = top.logit - std::log(static_cast<double>(probability(logits, n_vocab, excluded, top)));
    const auto of = [&](llama_token token) { return TokenLogprob{token, static_cast<float>(logits[token] - log_sum)}; };
    PositionLogprobs result{of(chosen), {}};
    if (n_top > 0) {
        for (llama_token token = 0; token < n_vocab; ++token) {
            if (token != excluded) {
                result.top.push_back(of(token));
            }
        }
        keep_top(result.top, n_top);
    }
    return result;
}

PositionLogprobs logprobs(const Distribution & target, llama_token chosen, int n_top) {
    const auto log_of = [](double p) { return static_cast<float>(std::log(p)); };
    PositionLogprobs result{{chosen, log_of(target.probability(chosen))}, {}};
    for (size_t i = 0; i < target.size(); ++i) {
        if (target.probability_at(i) > 0.0) {
            result.top.push_back({target.token(i), log_of(target.probability_at(i))});
        }
    }
    keep_top(result.top, n_top);
    return result;
}

}  // namespace trimode
