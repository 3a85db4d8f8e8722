#include "sampling/row.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "util/vectorize.h"

namespace trimode {

namespace {

constexpr int CHUNK = 64;  // logits that are looked at together

// exp(x) for x <= 0: 2^n exp(r) with |r| <= ln 2 / 2, and Taylor's series for the latter (its rest is below 6e-9).
inline float exp_of_negative(float x) {
    constexpr float LOWEST = -87.0f;                 // exp of it is still a normal number
    constexpr float TO_INTEGER = 12582912.0f;        // 1.5 * 2^23: adding it leaves no bits behind the point
    constexpr float LN2_HIGH = 0.693359375f;         // few bits: n * LN2_HIGH is exact
    constexpr float LN2_LOW = -2.12194440e-4f;       // ln 2 - LN2_HIGH
    const float clamped = x >= LOWEST ? x : LOWEST;  // of NaN, too
    const float n = (clamped * 1.44269504f + TO_INTEGER) - TO_INTEGER;
    const float r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    float series = 1.0f / 5040;
    series = series * r + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * r + 1.0f;
    series = series * r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof(power));
    return x >= LOWEST ? series * power : 0.0f;
}

VECTORIZED void exp_block(const float * logits, size_t n, float highest, float temperature, float * weights) {
    for (size_t i = 0; i < n; ++i) {
        weights[i] = exp_of_negative((logits[i] - highest) / temperature);
    }
}

VECTORIZED float sum_block(const float * weights, size_t n) {
    constexpr size_t LANES = 16;
    float lanes[LANES] = {};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; ++lane) {
            lanes[lane] += weights[i + lane];
        }
    }
    for (; i < n; ++i) {
        lanes[0] += weights[i];
    }
    double sum = 0.0;
    for (const float lane : lanes) {
        sum += lane;
    }
    return static_cast<float>(sum);
}

// Whether any of CHUNK logits is at least `floor`.
VECTORIZED bool any_from(const float * logits, float floor) {
    int any = 0;
    for (int i = 0; i < CHUNK; ++i) {
        any |= logits[i] >= floor;
    }
    return any != 0;
}

// Calls take(token) for each logit of at least floor(), which may rise meanwhile.
template <typename Floor, typename Take>
void for_each_from(const float * logits, int n, llama_token excluded, Floor floor, Take take) {
    for (int begin = 0; begin < n; begin += CHUNK) {
        const int end = std::min(n, begin + CHUNK);
        if (end - begin == CHUNK && !any_from(logits + begin, floor())) {
            continue;
        }
        for (int i = begin; i < end; ++i) {
            if (logits[i] >= floor() && logits[i] > -INFINITY && i != excluded) {
                take(i);
            }
        }
    }
}

}  // namespace

void exponentiate(const float * logits, size_t n, float highest, float temperature, float * weights, double * sums) {
    for (size_t begin = 0; begin < n; begin += WEIGHT_BLOCK) {
        const size_t size = std::min<size_t>(WEIGHT_BLOCK, n - begin);
        exp_block(logits + begin, size, highest, temperature, weights + begin);
        sums[begin / WEIGHT_BLOCK] = sum_block(weights + begin, size);
    }
}

void keep_highest(std::vector<llama_token_data> & candidates, size_t count) {
    if (candidates.size() > count) {
        std::nth_element(candidates.begin(), candidates.begin() + count - 1, candidates.end(), is_higher);
        candidates.resize(count);
    }
}

void collect_highest(const float * logits, int n, llama_token excluded, size_t count,
                     std::vector<llama_token_data> & out) {
    out.clear();
    // Twice as many as wanted are gathered before the lower half is dropped: few comparisons per logit.
    float floor = -INFINITY;
    for_each_from(
        logits, n, excluded, [&] { return floor; },
        [&](llama_token i) {
            out.push_back({i, logits[i], 0.0f});
            if (out.size() >= 2 * count + 64) {
                keep_highest(out, count);
                floor = out[count - 1].logit;
            }
        });
    keep_highest(out, count);
}

void collect_from(const float * logits, int n, llama_token excluded, float floor, std::vector<llama_token_data> & out) {
    out.clear();
    for_each_from(
        logits, n, excluded, [&] { return floor; }, [&](llama_token i) { out.push_back({i, logits[i], 0.0f}); });
}

}  // namespace trimode
