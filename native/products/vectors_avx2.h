// The vectors of kernels.h in AVX2, two registers each; with the 256-bit VNNI of Alder Lake and later where compiled
// so.
#pragma once

#include <immintrin.h>

#include "products/kernels.h"

namespace trimode::products {
namespace {

struct Avx2 {
    struct B {
        __m256i v[2];
    };
    using I = B;
    struct F {
        __m256 v[2];
    };
    using Table = __m256i;
    static constexpr bool HOLDS_BLOCK = false;  // 16 registers
    static constexpr int FLOAT_ROWS = 4, FLOAT_TILES = 1;
    static constexpr int PREFETCH = 4096;
#ifdef __AVXVNNI__
    static constexpr bool VNNI = true;
#else
    static constexpr bool VNNI = false;
#endif
    // Rows at a time: their sums and what a group of four columns needs fit the 16 registers.
    template <int Bits>
    static constexpr int rows() {
        return Bits == 8 && !VNNI ? 4 : 6;
    }

    static PYTRIMODE_INLINE __m256i load32(const void * p) {
        return _mm256_loadu_si256(static_cast<const __m256i *>(p));
    }
    static PYTRIMODE_INLINE B load(const uint8_t * p) { return {{load32(p), load32(p + 32)}}; }
    static PYTRIMODE_INLINE B either(B a, B b) {
        return {{_mm256_or_si256(a.v[0], b.v[0]), _mm256_or_si256(a.v[1], b.v[1])}};
    }
    // vpdpbusd wants unsigned bytes: signed ones are shifted by 128, which dots() takes off again.
    static PYTRIMODE_INLINE __m256i to_byte(__m256i v) {
        return VNNI ? _mm256_xor_si256(v, _mm256_set1_epi8(-128)) : v;
    }
    static PYTRIMODE_INLINE B to_byte(B b) { return {{to_byte(b.v[0]), to_byte(b.v[1])}}; }
    static PYTRIMODE_INLINE Table table(const int8_t * values) {
        return values ? to_byte(_mm256_broadcastsi128_si256(load16(values))) : _mm256_setzero_si256();
    }
    static PYTRIMODE_INLINE B lookup(Table t, B index) {
        return {{_mm256_shuffle_epi8(t, index.v[0]), _mm256_shuffle_epi8(t, index.v[1])}};
    }

    // Bits [from, from + n) of each byte, moved to [to, to + n).
    template <int From, int N, int To>
    static PYTRIMODE_INLINE B bits(B b) {
        constexpr char MASK = static_cast<char>(((1 << N) - 1) << To);
        for (__m256i & v : b.v) {
            if constexpr (From > To) {
                v = _mm256_srli_epi16(v, From - To);
            } else if constexpr (From < To) {
                v = _mm256_slli_epi16(v, To - From);
            }
            v = _mm256_and_si256(v, _mm256_set1_epi8(MASK));
        }
        return b;
    }

    // Computes `v` here: GCC would gather the additions of a block at its end, with every product spilled until then.
    static PYTRIMODE_INLINE void settle(__m256i & v) { asm volatile("" : "+x"(v)); }

    static PYTRIMODE_INLINE __m256i four(const int8_t * q) {
        int32_t value;
        __builtin_memcpy(&value, q, 4);
        return _mm256_set1_epi32(value);
    }

    // What the sums of (w - offset) * q begin with.
    template <int Bits, int Offset>
    static PYTRIMODE_INLINE I start(const int32_t & minus_sum) {
        constexpr int OFFSET = Bits == 8 && VNNI ? 128 : Offset;
        __m256i v = _mm256_setzero_si256();
        if constexpr (OFFSET != 0) {
            v = _mm256_slli_epi32(_mm256_set1_epi32(minus_sum), __builtin_ctz(OFFSET));
        }
        return {{v, v}};
    }

    // sum[row] + the products of groups FIRST to FIRST + N - 1. A group meets all rows before the next one is unpacked.
    template <int Bits, int FIRST, int N, class W, int R>
    static PYTRIMODE_INLINE void add_dots(const W & w, const Record * x, I (&sum)[R]) {
#ifdef __AVXVNNI__
        repeat<N>([&](auto g) __attribute__((always_inline)) {
            constexpr int G = FIRST + decltype(g)::VALUE;
            const B v = w(Index<G>());
            repeat<R>([&](auto r) __attribute__((always_inline)) {
                constexpr int ROW = decltype(r)::VALUE;
                const __m256i q = four(x[ROW].q + 4 * G);
                for (int i = 0; i < 2; ++i) {
                    sum[ROW].v[i] = _mm256_dpbusd_avx_epi32(sum[ROW].v[i], v.v[i], q);
                    settle(sum[ROW].v[i]);
                }
            });
        });
#else
        // A pair of products takes 16 bits: at most 2 * (2^Bits - 1) * 127. As many pairs are added as cannot overflow.
        // Signed bytes are |w|, which meets q with the sign of w.
        constexpr bool SIGNED = Bits == 8;
        constexpr int PAIRS = Bits <= 4 ? 8 : Bits == 5 ? 4 : Bits == 6 ? 2 : 1;
        constexpr int COUNT = N < PAIRS ? N : PAIRS;
        repeat<N / COUNT>([&](auto p) __attribute__((always_inline)) {
            __m256i pairs[R][2];
            repeat<COUNT>([&](auto g) __attribute__((always_inline)) {
                constexpr int NTH = decltype(g)::VALUE;
                constexpr int G = FIRST + decltype(p)::VALUE * COUNT + NTH;
                const B v = w(Index<G>());
                const B size = SIGNED ? B{{_mm256_abs_epi8(v.v[0]), _mm256_abs_epi8(v.v[1])}} : v;
                repeat<R>([&](auto r) __attribute__((always_inline)) {
                    constexpr int ROW = decltype(r)::VALUE;
                    const __m256i q = four(x[ROW].q + 4 * G);
                    for (int i = 0; i < 2; ++i) {
                        const __m256i pair = _mm256_maddubs_epi16(size.v[i], SIGNED ? _mm256_sign_epi8(q, v.v[i]) : q);
                        pairs[ROW][i] = NTH == 0 ? pair : _mm256_add_epi16(pairs[ROW][i], pair);
                        settle(pairs[ROW][i]);
                    }
                });
            });
            repeat<R>([&](auto r) __attribute__((always_inline)) {
                constexpr int ROW = decltype(r)::VALUE;
                for (int i = 0; i < 2; ++i) {
                    const __m256i four_columns = _mm256_madd_epi16(pairs[ROW][i], _mm256_set1_epi16(1));
                    sum[ROW].v[i] = _mm256_add_epi32(sum[ROW].v[i], four_columns);
                    settle(sum[ROW].v[i]);
                }
            });
        });
#endif
    }

    static PYTRIMODE_INLINE F zero() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
    static PYTRIMODE_INLINE F broadcast(float x) {
        const __m256 v = _mm256_set1_ps(x);
        return {{v, v}};
    }
    static PYTRIMODE_INLINE F to_float(I i) { return {{_mm256_cvtepi32_ps(i.v[0]), _mm256_cvtepi32_ps(i.v[1])}}; }
    static PYTRIMODE_INLINE F mul(F a, F b) { return {{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}}; }
    static PYTRIMODE_INLINE F fma(F a, F b, F c) {
        return {{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
    }
    static PYTRIMODE_INLINE F load(const float * p) { return {{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
    static PYTRIMODE_INLINE void store(float * p, F f) {
        _mm256_storeu_ps(p, f.v[0]);
        _mm256_storeu_ps(p + 8, f.v[1]);
    }

    static PYTRIMODE_INLINE __m128i load8(const void * p) { return _mm_loadl_epi64(static_cast<const __m128i *>(p)); }
    static PYTRIMODE_INLINE __m128i load16(const void * p) { return _mm_loadu_si128(static_cast<const __m128i *>(p)); }
    static PYTRIMODE_INLINE F from_half(const uint16_t * p) {
        return {{_mm256_cvtph_ps(load16(p)), _mm256_cvtph_ps(load16(p + 8))}};
    }
    static PYTRIMODE_INLINE F shifted_left(I i, int n) {
        return {{_mm256_castsi256_ps(_mm256_slli_epi32(i.v[0], n)), _mm256_castsi256_ps(_mm256_slli_epi32(i.v[1], n))}};
    }
    static PYTRIMODE_INLINE F from_bfloat(const uint16_t * p) {
        return shifted_left({{_mm256_cvtepu16_epi32(load16(p)), _mm256_cvtepu16_epi32(load16(p + 8))}}, 16);
    }
    static PYTRIMODE_INLINE F from_signed(const int8_t * p) {
        return to_float({{_mm256_cvtepi8_epi32(load8(p)), _mm256_cvtepi8_epi32(load8(p + 8))}});
    }
    static PYTRIMODE_INLINE I unsigned_bytes(const uint8_t * p) {
        return {{_mm256_cvtepu8_epi32(load8(p)), _mm256_cvtepu8_epi32(load8(p + 8))}};
    }
    static PYTRIMODE_INLINE F from_unsigned(const uint8_t * p) { return to_float(unsigned_bytes(p)); }
    static PYTRIMODE_INLINE F low_nibbles(const uint8_t * p) { return to_float(bits<0, 4, 0>(unsigned_bytes(p))); }
    static PYTRIMODE_INLINE F high_nibbles(const uint8_t * p) { return to_float(bits<4, 4, 0>(unsigned_bytes(p))); }
    // 2^(e - 127); 0 for e = 0.
    static PYTRIMODE_INLINE F power_of_two(const uint8_t * p) { return shifted_left(unsigned_bytes(p), 23); }
};

}  // namespace
}  // namespace trimode::products
