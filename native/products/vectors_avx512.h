// The vectors of kernels.h in AVX-512 with VNNI.
#pragma once

#include <immintrin.h>

#include "products/kernels.h"

namespace trimode::products {
namespace {

struct Avx512 {
    using B = __m512i;
    using I = __m512i;
    using F = __m512;
    using Table = __m512i;
    static constexpr bool HOLDS_BLOCK = true;
    template <int Bits>
    static constexpr int rows() {
        return 8;
    }
    static constexpr int FLOAT_ROWS = 6, FLOAT_TILES = 4;
    static constexpr int PREFETCH = 4096;

    static PYTRIMODE_INLINE B load(const uint8_t * p) { return _mm512_loadu_si512(p); }
    static PYTRIMODE_INLINE B either(B a, B b) { return _mm512_or_si512(a, b); }

    // vpdpbusd wants unsigned bytes: signed ones are shifted by 128, which dot() takes off again.
    static PYTRIMODE_INLINE B to_byte(B v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }

    static PYTRIMODE_INLINE Table table(const int8_t * values) {
        return values ? to_byte(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i *>(values))))
                      : _mm512_setzero_si512();
    }
    static PYTRIMODE_INLINE B lookup(Table t, B index) { return _mm512_shuffle_epi8(t, index); }

    // Bits [from, from + n) of each byte, moved to [to, to + n).
    template <int From, int N, int To>
    static PYTRIMODE_INLINE B bits(B v) {
        constexpr char MASK = static_cast<char>(((1 << N) - 1) << To);
        if constexpr (From > To) {
            v = _mm512_srli_epi16(v, From - To);
        } else if constexpr (From < To) {
            v = _mm512_slli_epi16(v, To - From);
        }
        return _mm512_and_si512(v, _mm512_set1_epi8(MASK));
    }

    // sum + the products of four columns.
    static PYTRIMODE_INLINE I dot4(I sum, B w, const int8_t * q) {
#if defined(__GNUC__) && !defined(__clang__)
        // GCC knows no broadcast as the instruction's operand, and takes an instruction more for it.
        struct Four {
            int8_t q[4];
        };
        asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*reinterpret_cast<const Four *>(q)));
        return sum;
#else
        int32_t four;
        __builtin_memcpy(&four, q, 4);
        return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(four));
#endif
    }

    // The tile's sums of (w - offset) * q over N * 4 columns; minus_sum is that of the q.
    template <int Bits, int Offset, int N>
    static PYTRIMODE_INLINE I dot(const B * w, const int8_t * q, const int32_t & minus_sum) {
        constexpr int OFFSET = Bits == 8 ? 128 : Offset;
        I sum = _mm512_setzero_si512();
        if constexpr (OFFSET != 0) {
            sum = _mm512_slli_epi32(_mm512_set1_epi32(minus_sum), __builtin_ctz(OFFSET));
        }
        repeat<N>([&](auto g) __attribute__((always_inline)) {
            constexpr int G = decltype(g)::VALUE;
            sum = dot4(sum, w[G], q + 4 * G);
        });
        return sum;
    }

    static PYTRIMODE_INLINE F zero() { return _mm512_setzero_ps(); }
    static PYTRIMODE_INLINE F broadcast(float x) { return _mm512_set1_ps(x); }
    static PYTRIMODE_INLINE F to_float(I v) { return _mm512_cvtepi32_ps(v); }
    static PYTRIMODE_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static PYTRIMODE_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static PYTRIMODE_INLINE F load(const float * p) { return _mm512_loadu_ps(p); }
    static PYTRIMODE_INLINE void store(float * p, F v) { _mm512_storeu_ps(p, v); }

    static PYTRIMODE_INLINE __m128i load16(const void * p) { return _mm_loadu_si128(static_cast<const __m128i *>(p)); }
    static PYTRIMODE_INLINE __m256i load32(const void * p) {
        return _mm256_loadu_si256(static_cast<const __m256i *>(p));
    }
    static PYTRIMODE_INLINE F from_half(const uint16_t * p) { return _mm512_cvtph_ps(load32(p)); }
    static PYTRIMODE_INLINE F from_bfloat(const uint16_t * p) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load32(p)), 16));
    }
    static PYTRIMODE_INLINE F from_signed(const int8_t * p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(p)));
    }
    static PYTRIMODE_INLINE F from_unsigned(const uint8_t * p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load16(p)));
    }
    static PYTRIMODE_INLINE F low_nibbles(const uint8_t * p) {
        return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_cvtepu8_epi32(load16(p)), _mm512_set1_epi32(15)));
    }
    static PYTRIMODE_INLINE F high_nibbles(const uint8_t * p) {
        return _mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_cvtepu8_epi32(load16(p)), 4));
    }
    // 2^(e - 127); 0 for e = 0.
    static PYTRIMODE_INLINE F power_of_two(const uint8_t * p) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu8_epi32(load16(p)), 23));
    }
};

}  // namespace
}  // namespace trimode::products
