#include "random.h"

#include <cmath>

namespace trimode {

namespace {

struct Block {
    uint32_t x[4];
};

Block philox(Block counter, uint32_t key0, uint32_t key1) {
    constexpr uint64_t M0 = 0xD2511F53, M1 = 0xCD9E8D57;
    constexpr uint32_t W0 = 0x9E3779B9, W1 = 0xBB67AE85;
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = M0 * counter.x[0];
        const uint64_t p1 = M1 * counter.x[2];
        counter = {{static_cast<uint32_t>(p1 >> 32) ^ counter.x[1] ^ key0, static_cast<uint32_t>(p1),
                    static_cast<uint32_t>(p0 >> 32) ^ counter.x[3] ^ key1, static_cast<uint32_t>(p0)}};
        key0 += W0;
        key1 += W1;
    }
    return counter;
}

}  // namespace

double uniform(uint64_t seed, int32_t position, Draw draw, uint32_t index) {
    const Block counter{{static_cast<uint32_t>(position), static_cast<uint32_t>(draw), index, 0}};
    const Block random = philox(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    // 52 bits, centred in their interval: never 0, never 1.
    const uint64_t bits = (uint64_t(random.x[0]) << 20) | (random.x[1] >> 12);
    return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

double gumbel(uint64_t seed, int32_t position, int32_t token) {
    return -std::log(-std::log(uniform(seed, position, Draw::gumbel, static_cast<uint32_t>(token))));
}

}  // namespace trimode
