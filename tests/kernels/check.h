// What the checks of products and of attention share: numbers by lot, the same on every machine, and a hash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <set>
#include <string>

// Both return the number of differences that they found, and add the names of the sets they ran. `hash` becomes that of
// the plain kernels' results.
int check_products(std::set<std::string> & ran, uint64_t & hash);
int check_attention(std::set<std::string> & ran, uint64_t & hash);

class Random {  // splitmix64, by Sebastiano Vigna
  public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    int below(int n) { return static_cast<int>(next() % n); }

    // Mean 0, variance 1, of a bell's shape.
    float value() {
        float sum = -6.0f;
        for (int i = 0; i < 12; ++i) {
            sum += static_cast<float>(next() >> 40) * 0x1p-24f;
        }
        return sum;
    }
    // The bits of a finite half of either sign, below 2, subnormal ones among them.
    uint16_t half() { return static_cast<uint16_t>((next() & 1) << 15 | (next() & 0x3fff)); }
    void fill(void * to, size_t n) {
        for (size_t i = 0; i < n; ++i) {
            static_cast<uint8_t *>(to)[i] = static_cast<uint8_t>(next());
        }
    }

  private:
    uint64_t state_;
};

inline uint16_t bfloat(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<uint16_t>(bits >> 16);
}

// FNV-1a of `n` bytes, going on from `hash`.
inline uint64_t hashed(uint64_t hash, const void * data, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        hash = (hash ^ static_cast<const uint8_t *>(data)[i]) * 0x100000001b3;
    }
    return hash;
}
