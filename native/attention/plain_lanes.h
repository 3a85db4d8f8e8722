// 16 floats as an array. To be included in an anonymous namespace.

struct Lanes {
    float x[LANES];
};

constexpr int QUERIES_BY_CELLS = 4, CELL_QUERIES = 1;
constexpr int SCORE_QUERIES = 2, SCORE_CELLS = 1;
constexpr int VALUE_QUERIES = 2, VALUE_COLUMNS = 1;

template <typename F>
inline Lanes each(F f) {
    Lanes result;
    for (int i = 0; i < LANES; ++i) {
        result.x[i] = f(i);
    }
    return result;
}

inline float fma_one(float a, float b, float c) {
#ifdef TRIMODE_UNFUSED
    return a * b + c;
#else
    return __builtin_fmaf(a, b, c);
#endif
}

inline Lanes load(const float * p) {
    return each([&](int i) { return p[i]; });
}
inline void store(float * p, const Lanes & a) {
    for (int i = 0; i < LANES; ++i) {
        p[i] = a.x[i];
    }
}
inline Lanes set(float v) {
    return each([&](int) { return v; });
}
inline Lanes zero() { return set(0.0f); }
inline Lanes add(const Lanes & a, const Lanes & b) {
    return each([&](int i) { return a.x[i] + b.x[i]; });
}
inline Lanes sub(const Lanes & a, const Lanes & b) {
    return each([&](int i) { return a.x[i] - b.x[i]; });
}
inline Lanes mul(const Lanes & a, const Lanes & b) {
    return each([&](int i) { return a.x[i] * b.x[i]; });
}
inline Lanes max(const Lanes & a, const Lanes & b) {  // b where either is NaN
    return each([&](int i) { return a.x[i] > b.x[i] ? a.x[i] : b.x[i]; });
}
inline Lanes fma(const Lanes & a, const Lanes & b, const Lanes & c) {
    return each([&](int i) { return fma_one(a.x[i], b.x[i], c.x[i]); });
}

inline float from_bits(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}
inline uint32_t to_bits(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}
inline float f16_value(const uint8_t * p) {
    uint16_t half;
    __builtin_memcpy(&half, p, 2);
    const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest >= 0x7c00) {  // infinity, NaN
        return from_bits(sign | 0x7f800000 | ((rest & 0x3ff) << 13));
    }
    // The exponent's bias grows by 112; a product does it for denormals too.
    return from_bits(sign | to_bits(from_bits(rest << 13) * 0x1p112f));
}
inline Lanes from_f16(const uint8_t * p) {
    return each([&](int i) { return f16_value(p + 2 * i); });
}
inline Lanes from_bf16(const uint8_t * p) {
    return each([&](int i) { return from_bits(uint32_t(p[2 * i]) << 16 | uint32_t(p[2 * i + 1]) << 24); });
}
inline Lanes from_i8(const int8_t * p) {
    return each([&](int i) { return float(p[i]); });
}
inline Lanes from_nibbles(const uint8_t * p, int high) {
    return each([&](int i) { return float((high ? p[i] >> 4 : p[i] & 15) - 8); });
}

// The sums of a, b, c, d over lanes 4 apart: four of each, one behind the other.
inline Lanes quad_sums(const Lanes & a, const Lanes & b, const Lanes & c, const Lanes & d) {
    const Lanes * from[4] = {&a, &b, &c, &d};
    return each([&](int i) {
        const float * x = from[i / 4]->x + i % 4;
        return (x[0] + x[8]) + (x[4] + x[12]);
    });
}
// Lane 4 i + j: the sum of quad i of argument j.
inline Lanes collect(const Lanes & a, const Lanes & b, const Lanes & c, const Lanes & d) {
    const Lanes * from[4] = {&a, &b, &c, &d};
    return each([&](int i) {
        const float * x = from[i % 4]->x + i / 4 * 4;
        return (x[0] + x[2]) + (x[1] + x[3]);
    });
}
inline float sum_lanes(const Lanes & a) {
    const Lanes quad = quad_sums(a, a, a, a);
    return collect(quad, quad, quad, quad).x[0];
}
inline float highest_lane(const Lanes & a) {
    float highest = a.x[0];
    for (const float x : a.x) {
        highest = x > highest ? x : highest;
    }
    return highest;
}

// 2^n, n the lowest bits of a sum with 1.5 * 2^23.
inline Lanes power_of_two(const Lanes & shifted) {
    return each([&](int i) { return from_bits((to_bits(shifted.x[i]) << 23) + 0x3f800000); });
}
inline Lanes zero_where_hidden(const Lanes & a, const Lanes & score) {
    return each([&](int i) { return score.x[i] == -__builtin_inff() ? 0.0f : a.x[i]; });
}

// 16 x 16.
inline void transpose(const float * from, size_t from_stride, float * to, size_t to_stride) {
    for (int i = 0; i < LANES; ++i) {
        for (int j = 0; j < LANES; ++j) {
            to[j * to_stride + i] = from[i * from_stride + j];
        }
    }
}
