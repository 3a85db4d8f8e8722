#include "sampling/random.h"

#include <cmath>

#include "util/vectorize.h"

namespace trimode {

namespace {

constexpr int LANES = 16;  // counters that are encrypted together
constexpr int WORDS = 4;
static_assert(LANES * WORDS == NOISE_GROUP, "a word for each token of a group");

// Word w of counter `lane` in x[w][lane].
template <int N>
struct Counters {
    uint32_t x[WORDS][N];
};

template <int N>
inline void philox(Counters<N> & c, uint64_t key) {
    constexpr uint64_t M0 = 0xD2511F53, M1 = 0xCD9E8D57;
    constexpr uint32_t W0 = 0x9E3779B9, W1 = 0xBB67AE85;
    uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        for (int lane = 0; lane < N; ++lane) {
            const uint64_t p0 = M0 * c.x[0][lane];
            const uint64_t p1 = M1 * c.x[2][lane];
            c.x[0][lane] = static_cast<uint32_t>(p1 >> 32) ^ c.x[1][lane] ^ key0;
            c.x[2][lane] = static_cast<uint32_t>(p0 >> 32) ^ c.x[3][lane] ^ key1;
            c.x[1][lane] = static_cast<uint32_t>(p1);
            c.x[3][lane] = static_cast<uint32_t>(p0);
        }
        key0 += W0;
        key1 += W1;
    }
}

// The counter's last word is 0, but 1 for the lower bits of noise.
Counters<1> one(uint64_t seed, int32_t position, Draw draw, uint32_t index, uint32_t last) {
    Counters<1> c{{{static_cast<uint32_t>(position)}, {static_cast<uint32_t>(draw)}, {index}, {last}}};
    philox(c, seed);
    return c;
}

// 52 bits, centred in their interval: never 0, never 1.
double centred(uint32_t upper, uint32_t lower) {
    const uint64_t bits = (uint64_t(upper) << 20) | (lower >> 12);
    return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

}  // namespace

double uniform(uint64_t seed, int32_t position, Draw draw, uint32_t index) {
    const Counters<1> c = one(seed, position, draw, index, 0);
    return centred(c.x[0][0], c.x[1][0]);
}

// Token t takes word t / LANES % WORDS of counter t / NOISE_GROUP * LANES + t % LANES.
VECTORIZED void noise_words(uint64_t seed, int32_t position, int32_t first, uint32_t * words) {
    Counters<LANES> c;
    for (int lane = 0; lane < LANES; ++lane) {
        c.x[0][lane] = static_cast<uint32_t>(position);
        c.x[1][lane] = static_cast<uint32_t>(Draw::gumbel);
        c.x[2][lane] = static_cast<uint32_t>(first / WORDS + lane);
        c.x[3][lane] = 0;
    }
    philox(c, seed);
    for (int word = 0; word < WORDS; ++word) {
        for (int lane = 0; lane < LANES; ++lane) {
            words[word * LANES + lane] = c.x[word][lane];
        }
    }
}

double exponential(uint64_t seed, int32_t position, int32_t token, uint32_t word) {
    const Counters<1> lower = one(seed, position, Draw::gumbel, static_cast<uint32_t>(token), 1);
    return -std::log(centred(word, lower.x[0][0]));
}

double exponential(uint64_t seed, int32_t position, int32_t token) {
    const uint32_t counter = token / NOISE_GROUP * LANES + token % LANES;
    const Counters<1> upper = one(seed, position, Draw::gumbel, counter, 0);
    return exponential(seed, position, token, upper.x[token / LANES % WORDS][0]);
}

}  // namespace trimode
