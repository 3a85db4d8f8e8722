// The kernels in plain C++: what the other sets must equal bit for bit, and nothing to run a model with.
#include "products/kernels.h"

namespace trimode::products {
namespace {

struct Plain {
    struct B {
        uint8_t v[TILE * 4];
    };
    struct I {
        int32_t v[TILE];
    };
    struct F {
        float v[TILE];
    };
    struct Table {
        int8_t v[16];
    };
    static constexpr bool HOLDS_BLOCK = true;
    template <int Bits>
    static constexpr int rows() {
        return 2;
    }
    static constexpr int FLOAT_ROWS = 2, FLOAT_TILES = 1;
    static constexpr int PREFETCH = 0;

    static B load(const uint8_t * p) {
        B b;
        __builtin_memcpy(b.v, p, sizeof b.v);
        return b;
    }
    static B either(B a, const B & b) {
        for (int i = 0; i < TILE * 4; ++i) {
            a.v[i] |= b.v[i];
        }
        return a;
    }
    static B to_byte(const B & b) { return b; }
    static Table table(const int8_t * values) {
        Table t{};
        if (values) {
            __builtin_memcpy(t.v, values, sizeof t.v);
        }
        return t;
    }
    static B lookup(const Table & t, B index) {
        for (uint8_t & i : index.v) {
            i = static_cast<uint8_t>(t.v[i]);
        }
        return index;
    }
    template <int From, int N, int To>
    static B bits(B b) {
        for (uint8_t & v : b.v) {
            v = static_cast<uint8_t>((v >> From & ((1 << N) - 1)) << To);
        }
        return b;
    }
    template <int Bits, int Offset, int N>
    static I dot(const B * w, const int8_t * q, const int32_t & minus_sum) {
        I sum;
        for (int r = 0; r < TILE; ++r) {
            sum.v[r] = Offset * minus_sum;
            for (int i = 0; i < 4 * N; ++i) {
                const uint8_t byte = w[i / 4].v[4 * r + i % 4];
                sum.v[r] += q[i] * (Bits == 8 ? static_cast<int8_t>(byte) : byte);
            }
        }
        return sum;
    }

    template <class Value>
    static F each(Value value) {
        F f;
        for (int r = 0; r < TILE; ++r) {
            f.v[r] = value(r);
        }
        return f;
    }
    static F zero() { return F{}; }
    static F broadcast(float x) {
        return each([&](int) { return x; });
    }
    static F to_float(const I & i) {
        return each([&](int r) { return static_cast<float>(i.v[r]); });
    }
    static F mul(const F & a, const F & b) {
        return each([&](int r) { return a.v[r] * b.v[r]; });
    }
    static F fma(const F & a, const F & b, const F & c) {
        return each([&](int r) { return __builtin_fmaf(a.v[r], b.v[r], c.v[r]); });
    }
    static F load(const float * p) {
        return each([&](int r) { return p[r]; });
    }
    static void store(float * p, const F & f) { __builtin_memcpy(p, f.v, sizeof f.v); }
    static float half(uint16_t h) {
        const uint32_t sign = uint32_t(h & 0x8000) << 16;
        const uint32_t exponent = h >> 10 & 31;
        const uint32_t fraction = h & 0x3ff;
        if (exponent == 0) {  // zero and subnormals: fraction * 2^-24
            return float_of(sign | bits_of(static_cast<float>(fraction) * float_of(103u << 23)));
        }
        return float_of(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
    }
    static F from_half(const uint16_t * p) {
        return each([&](int r) { return half(p[r]); });
    }
    static F from_bfloat(const uint16_t * p) {
        return each([&](int r) { return float_of(uint32_t(p[r]) << 16); });
    }
    static F from_signed(const int8_t * p) {
        return each([&](int r) { return static_cast<float>(p[r]); });
    }
    static F from_unsigned(const uint8_t * p) {
        return each([&](int r) { return static_cast<float>(p[r]); });
    }
    static F low_nibbles(const uint8_t * p) {
        return each([&](int r) { return static_cast<float>(p[r] & 15); });
    }
    static F high_nibbles(const uint8_t * p) {
        return each([&](int r) { return static_cast<float>(p[r] >> 4); });
    }
    static F power_of_two(const uint8_t * p) {
        return each([&](int r) { return float_of(uint32_t(p[r]) << 23); });
    }
};

}  // namespace

extern const Kernels KERNELS_PLAIN;
const Kernels KERNELS_PLAIN = kernels_over<Plain>("plain");

}  // namespace trimode::products
