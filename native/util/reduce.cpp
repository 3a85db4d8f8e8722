#include "util/reduce.h"

#include <algorithm>
#include <cmath>

namespace trimode {

namespace {

constexpr int BLOCK = 1024;  // a maximum per block first: that loop vectorizes, a search for the index does not
constexpr int LANES = 16;    // independent maxima, which the compiler keeps in vector registers

float highest_of(const float * logits, int n) {
    float lanes[LANES];
    std::fill(lanes, lanes + LANES, -INFINITY);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int lane = 0; lane < LANES; ++lane) {
            const float x = logits[i + lane];
            lanes[lane] = x > lanes[lane] ? x : lanes[lane];
        }
    }
    float highest = *std::max_element(lanes, lanes + LANES);
    for (; i < n; ++i) {
        highest = std::max(highest, logits[i]);
    }
    return highest;
}

Top argmax_range(const float * logits, int begin, int end, Top best) {
    for (int b = begin; b < end; b += BLOCK) {
        const int e = std::min(end, b + BLOCK);
        const float highest = highest_of(logits + b, e - b);
        if (highest > best.logit) {
            best = {static_cast<llama_token>(std::find(logits + b, logits + e, highest) - logits), highest};
        }
    }
    return best;
}

// The better of `best` and what lies in front of and behind `left_out`.
Top argmax_around(const float * logits, int begin, int end, llama_token left_out, Top best) {
    if (left_out < begin || left_out >= end) {
        return argmax_range(logits, begin, end, best);
    }
    best = argmax_range(logits, begin, left_out, best);
    return argmax_range(logits, left_out + 1, end, best);
}

}  // namespace

Top argmax(const float * logits, int n, llama_token excluded) {
    return argmax_around(logits, 0, n, excluded, {0, -INFINITY});
}

Top runner_up(const float * logits, int n, llama_token excluded, Top top) {
    const Top best = argmax_around(logits, 0, top.token, excluded, {0, -INFINITY});
    return argmax_around(logits, top.token + 1, n, excluded, best);
}

float probability(const float * logits, int n, llama_token excluded, Top top) {
    double sum = 0.0;
    for (int b = 0; b < n; b += BLOCK) {
        float partial = 0.0f;
        for (int i = b; i < std::min(n, b + BLOCK); ++i) {
            partial += std::exp(logits[i] - top.logit);
        }
        sum += partial;
    }
    if (excluded >= 0 && excluded < n) {
        sum -= std::exp(logits[excluded] - top.logit);
    }
    return static_cast<float>(1.0 / sum);
}

}  // namespace trimode
