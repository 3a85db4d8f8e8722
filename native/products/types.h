// The types of weights that have products, one struct each: a new type is a struct here and its name in layout.h.
//
// BITS of a stored value (bit planes: kernels.h); OFFSET is taken off a value (0: none); GROUP columns share a scale;
// MIN: a minimum is added; SUPER blocks share a Scales. decode() takes row r of a tile out of ggml's block: a value per
// byte into q, its scales into s. scale() gives, as vectors over the tile's rows, what block j's group g is multiplied
// with (d) and what is added per unit of the activations' sum (m). Formats: ggml's ggml-common.h and ggml-quants.c.
#pragma once

#include "products/layout.h"

namespace trimode::products {
namespace {

using Half = uint16_t;

template <class V>
struct Scale {
    typename V::F d;
    typename V::F m;
};

// Common to all: what most types have.
template <int Bits, int Offset, int Group = BLOCK, int Super = 1, bool Min = false>
struct Quantized {
    static constexpr bool FLOAT = false;
    static constexpr int BITS = Bits, OFFSET = Offset, GROUP = Group, SUPER = Super;
    static constexpr bool MIN = Min;
    static constexpr bool IS_INDEX = false;  // of values in a table, VALUES
    static constexpr const int8_t * VALUES = nullptr;
    static constexpr int QUANT_BYTES = TILE * BLOCK * Bits / 8;  // of a block
};

struct ScalesD {
    Half d[TILE];
};
struct ScalesDM {
    Half d[TILE], m[TILE];
};
struct ScalesK16 {  // a signed scale per 16 columns
    Half d[TILE];
    int8_t scale[16][TILE];
};

inline void decode_nibbles(const uint8_t * in, uint8_t * q) {  // low nibbles: columns 0 to 15
    for (int i = 0; i < 16; ++i) {
        q[i] = in[i] & 15;
        q[i + 16] = in[i] >> 4;
    }
}

inline void decode_fifth_bits(const uint8_t * in, uint8_t * q) {
    for (int j = 0; j < 4; ++j) {
        for (int i = 0; i < 8; ++i) {
            q[8 * j + i] |= (in[j] >> i & 1) << 4;
        }
    }
}

constexpr Half minus(Half h) { return h ^ 0x8000; }

struct Q8_0 : Quantized<8, 0> {  // the values are signed
    struct Block {
        Half d;
        uint8_t q[32];
    };
    using Scales = ScalesD;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        __builtin_memcpy(q, in.q, 32);
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int, int) {
        return {V::from_half(s.d), V::zero()};
    }
};

struct Q4_0 : Quantized<4, 8> {
    struct Block {
        Half d;
        uint8_t q[16];
    };
    using Scales = ScalesD;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        decode_nibbles(in.q, q);
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int, int) {
        return {V::from_half(s.d), V::zero()};
    }
};

struct Q4_1 : Quantized<4, 0, BLOCK, 1, true> {
    struct Block {
        Half d, m;
        uint8_t q[16];
    };
    using Scales = ScalesDM;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        s.m[r] = in.m;
        decode_nibbles(in.q, q);
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int, int) {
        return {V::from_half(s.d), V::from_half(s.m)};
    }
};

struct Q5_0 : Quantized<5, 16> {
    struct Block {
        Half d;
        uint8_t high[4], q[16];
    };
    using Scales = ScalesD;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        decode_nibbles(in.q, q);
        decode_fifth_bits(in.high, q);
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int, int) {
        return {V::from_half(s.d), V::zero()};
    }
};

struct Q5_1 : Quantized<5, 0, BLOCK, 1, true> {
    struct Block {
        Half d, m;
        uint8_t high[4], q[16];
    };
    using Scales = ScalesDM;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        s.m[r] = in.m;
        decode_nibbles(in.q, q);
        decode_fifth_bits(in.high, q);
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int, int) {
        return {V::from_half(s.d), V::from_half(s.m)};
    }
};

struct Q2_K : Quantized<2, 0, 16, 8, true> {
    struct Block {
        uint8_t scales[16], q[64];
        Half d, dmin;
    };
    struct Scales {
        Half d[TILE], minus_dmin[TILE];
        uint8_t scale_min[16][TILE];  // a nibble each
    };
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        s.minus_dmin[r] = minus(in.dmin);
        for (int i = 0; i < 16; ++i) {
            s.scale_min[i][r] = in.scales[i];
        }
        for (int j = 0; j < 8; ++j) {
            for (int i = 0; i < 32; ++i) {
                q[32 * j + i] = in.q[j / 4 * 32 + i] >> (j % 4 * 2) & 3;
            }
        }
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int j, int g) {
        const uint8_t * p = s.scale_min[2 * j + g];
        return {V::mul(V::from_half(s.d), V::low_nibbles(p)), V::mul(V::from_half(s.minus_dmin), V::high_nibbles(p))};
    }
};

struct Q3_K : Quantized<3, 4, 16, 8> {
    struct Block {
        uint8_t high[32], q[64], scales[12];
        Half d;
    };
    using Scales = ScalesK16;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        for (int i = 0; i < 16; ++i) {
            const int low = in.scales[i % 8] >> (i / 8 * 4) & 15;
            const int high = in.scales[8 + i % 4] >> (i / 4 * 2) & 3;
            s.scale[i][r] = static_cast<int8_t>((low | high << 4) - 32);
        }
        for (int j = 0; j < 8; ++j) {
            for (int i = 0; i < 32; ++i) {
                const int low = in.q[j / 4 * 32 + i] >> (j % 4 * 2) & 3;
                q[32 * j + i] = static_cast<uint8_t>(low | (in.high[i] >> j & 1) << 2);
            }
        }
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int j, int g) {
        return {V::mul(V::from_half(s.d), V::from_signed(s.scale[2 * j + g])), V::zero()};
    }
};

// Scales and minima of Q4_K and Q5_K: 6 bits each.
struct ScalesK32 {
    Half d[TILE], minus_dmin[TILE];
    uint8_t scale[8][TILE], min[8][TILE];

    void decode(Half d_in, Half dmin_in, const uint8_t * in, int r) {
        d[r] = d_in;
        minus_dmin[r] = minus(dmin_in);
        for (int i = 0; i < 4; ++i) {
            scale[i][r] = in[i] & 63;
            min[i][r] = in[i + 4] & 63;
            scale[i + 4][r] = static_cast<uint8_t>((in[i + 8] & 15) | in[i] >> 6 << 4);
            min[i + 4][r] = static_cast<uint8_t>(in[i + 8] >> 4 | in[i + 4] >> 6 << 4);
        }
    }
    template <class V>
    Scale<V> get(int j) const {
        return {V::mul(V::from_half(d), V::from_unsigned(scale[j])),
                V::mul(V::from_half(minus_dmin), V::from_unsigned(min[j]))};
    }
};

struct Q4_K : Quantized<4, 0, BLOCK, 8, true> {
    struct Block {
        Half d, dmin;
        uint8_t scales[12], q[128];
    };
    using Scales = ScalesK32;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.decode(in.d, in.dmin, in.scales, r);
        for (int j = 0; j < 8; ++j) {
            for (int i = 0; i < 32; ++i) {
                q[32 * j + i] = in.q[j / 2 * 32 + i] >> (j % 2 * 4) & 15;
            }
        }
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int j, int) {
        return s.get<V>(j);
    }
};

struct Q5_K : Quantized<5, 0, BLOCK, 8, true> {
    struct Block {
        Half d, dmin;
        uint8_t scales[12], high[32], q[128];
    };
    using Scales = ScalesK32;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.decode(in.d, in.dmin, in.scales, r);
        for (int j = 0; j < 8; ++j) {
            for (int i = 0; i < 32; ++i) {
                const int low = in.q[j / 2 * 32 + i] >> (j % 2 * 4) & 15;
                q[32 * j + i] = static_cast<uint8_t>(low | (in.high[i] >> j & 1) << 4);
            }
        }
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int j, int) {
        return s.get<V>(j);
    }
};

struct Q6_K : Quantized<6, 32, 16, 8> {
    struct Block {
        uint8_t q[128], high[64];
        int8_t scales[16];
        Half d;
    };
    using Scales = ScalesK16;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        for (int i = 0; i < 16; ++i) {
            s.scale[i][r] = in.scales[i];
        }
        for (int j = 0; j < 8; ++j) {
            for (int i = 0; i < 32; ++i) {
                const int low = in.q[j / 4 * 64 + j % 2 * 32 + i] >> (j % 4 / 2 * 4) & 15;
                const int high = in.high[j / 4 * 32 + i] >> (j % 4 * 2) & 3;
                q[32 * j + i] = static_cast<uint8_t>(low | high << 4);
            }
        }
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int j, int g) {
        return {V::mul(V::from_half(s.d), V::from_signed(s.scale[2 * j + g])), V::zero()};
    }
};

constexpr int8_t IQ4_VALUES[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

struct IQ4_NL : Quantized<4, 0> {
    static constexpr bool IS_INDEX = true;
    static constexpr const int8_t * VALUES = IQ4_VALUES;
    using Block = Q4_0::Block;
    using Scales = ScalesD;
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) { Q4_0::decode(in, q, s, r); }
    template <class V>
    static Scale<V> scale(const Scales & s, int, int) {
        return {V::from_half(s.d), V::zero()};
    }
};

struct IQ4_XS : Quantized<4, 0, BLOCK, 8> {
    static constexpr bool IS_INDEX = true;
    static constexpr const int8_t * VALUES = IQ4_VALUES;
    struct Block {
        Half d;
        uint16_t scales_high;
        uint8_t scales_low[4], q[128];
    };
    struct Scales {
        Half d[TILE];
        int8_t scale[8][TILE];
    };
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.d[r] = in.d;
        for (int i = 0; i < 8; ++i) {
            const int low = in.scales_low[i / 2] >> (i % 2 * 4) & 15;
            s.scale[i][r] = static_cast<int8_t>((low | (in.scales_high >> (2 * i) & 3) << 4) - 32);
            decode_nibbles(in.q + 16 * i, q + 32 * i);
        }
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int j, int) {
        return {V::mul(V::from_half(s.d), V::from_signed(s.scale[j])), V::zero()};
    }
};

constexpr int8_t MXFP4_VALUES[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // doubled

struct MXFP4 : Quantized<4, 0> {
    static constexpr bool IS_INDEX = true;
    static constexpr const int8_t * VALUES = MXFP4_VALUES;
    struct Block {
        uint8_t exponent;
        uint8_t q[16];
    };
    struct Scales {
        uint8_t exponent[TILE];
    };
    static void decode(const Block & in, uint8_t * q, Scales & s, int r) {
        s.exponent[r] = in.exponent;
        decode_nibbles(in.q, q);
    }
    template <class V>
    static Scale<V> scale(const Scales & s, int, int) {
        return {V::mul(V::broadcast(0.5f), V::power_of_two(s.exponent)), V::zero()};
    }
};

struct F32 {
    static constexpr bool FLOAT = true;
    using Value = float;
    template <class V>
    static typename V::F load(const Value * p) {
        return V::load(p);
    }
};

struct F16 {
    static constexpr bool FLOAT = true;
    using Value = uint16_t;
    template <class V>
    static typename V::F load(const Value * p) {
        return V::from_half(p);
    }
};

struct BF16 {
    static constexpr bool FLOAT = true;
    using Value = uint16_t;
    template <class V>
    static typename V::F load(const Value * p) {
        return V::from_bfloat(p);
    }
};

}  // namespace
}  // namespace trimode::products
