// AVX-512 (F, BW, DQ, VL).
#include "attention/kernel_sets.h"

#ifdef TRIMODE_X86
#include <immintrin.h>

namespace trimode {

namespace {

using Lanes = __m512;

constexpr int QUERIES_BY_CELLS = 32;  // up to so many, transposing K costs more than it saves
constexpr int CELL_QUERIES = 4;
constexpr int SCORE_QUERIES = 4, SCORE_CELLS = 4;
constexpr int VALUE_QUERIES = 4, VALUE_COLUMNS = 4;

inline Lanes load(const float * p) { return _mm512_loadu_ps(p); }
inline void store(float * p, Lanes x) { _mm512_storeu_ps(p, x); }
inline Lanes set(float x) { return _mm512_set1_ps(x); }
inline Lanes zero() { return _mm512_setzero_ps(); }
inline Lanes add(Lanes a, Lanes b) { return _mm512_add_ps(a, b); }
inline Lanes sub(Lanes a, Lanes b) { return _mm512_sub_ps(a, b); }
inline Lanes mul(Lanes a, Lanes b) { return _mm512_mul_ps(a, b); }
inline Lanes max(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
inline float fma_one(float a, float b, float c) {
    return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}

inline float f16_value(const uint8_t * p) {
    uint16_t bits;
    __builtin_memcpy(&bits, p, 2);
    return _cvtsh_ss(bits);
}
inline Lanes from_f16(const uint8_t * p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
inline Lanes from_bf16(const uint8_t * p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
inline Lanes from_i8(const int8_t * p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
inline Lanes from_nibbles(const uint8_t * p, int high) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    const __m128i low = _mm_and_si128(high ? _mm_srli_epi16(bytes, 4) : bytes, _mm_set1_epi8(15));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_sub_epi8(low, _mm_set1_epi8(8))));
}

// The sums of a, b, c, d over lanes 4 apart: four of each, one behind the other.
inline Lanes quad_sums(Lanes a, Lanes b, Lanes c, Lanes d) {
    const Lanes ab = add(_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
    const Lanes cd = add(_mm512_mask_blend_ps(0xff00, c, d), _mm512_shuffle_f32x4(c, d, 0x4e));
    // [a a' b' b | c c' d' d]
    return add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

// Lane 4 i + j: the sum of quad i of argument j.
inline Lanes collect(Lanes a, Lanes b, Lanes c, Lanes d) {
    const Lanes ab = add(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    const Lanes cd = add(_mm512_shuffle_ps(c, d, 0x44), _mm512_shuffle_ps(c, d, 0xee));
    return add(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xdd));
}

inline float sum_lanes(Lanes x) {
    const Lanes quad = quad_sums(x, x, x, x);
    return _mm512_cvtss_f32(collect(quad, quad, quad, quad));
}
inline float highest_lane(Lanes x) { return _mm512_reduce_max_ps(x); }

// 2^n, n the lowest bits of a sum with 1.5 * 2^23.
inline Lanes power_of_two(Lanes shifted) {
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f800000)));
}
inline Lanes zero_where_hidden(Lanes x, Lanes score) {
    const __mmask16 visible = _mm512_cmp_ps_mask(score, set(-__builtin_inff()), _CMP_NEQ_UQ);
    return _mm512_maskz_mov_ps(visible, x);
}

// 16 x 16.
inline void transpose(const float * from, size_t from_stride, float * to, size_t to_stride) {
    __m512 rows[16], pairs[16], quads[16];
    for (int i = 0; i < 16; ++i) {
        rows[i] = load(from + i * from_stride);
    }
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    const auto low = [](__m512 a, __m512 b) {
        return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    };
    const auto high = [](__m512 a, __m512 b) {
        return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    };
    for (int i = 0; i < 16; i += 4) {  // quads[i + j]: of rows i .. i + 3 columns j, j + 4, j + 8, j + 12
        quads[i] = low(pairs[i], pairs[i + 2]);
        quads[i + 1] = high(pairs[i], pairs[i + 2]);
        quads[i + 2] = low(pairs[i + 1], pairs[i + 3]);
        quads[i + 3] = high(pairs[i + 1], pairs[i + 3]);
    }
    for (int j = 0; j < 4; ++j) {
        const __m512 a = _mm512_shuffle_f32x4(quads[j], quads[j + 4], 0x88);       // columns j, j + 8 of rows 0 .. 7
        const __m512 b = _mm512_shuffle_f32x4(quads[j], quads[j + 4], 0xdd);       // columns j + 4, j + 12
        const __m512 c = _mm512_shuffle_f32x4(quads[j + 8], quads[j + 12], 0x88);  // the same of rows 8 .. 15
        const __m512 d = _mm512_shuffle_f32x4(quads[j + 8], quads[j + 12], 0xdd);
        store(to + j * to_stride, _mm512_shuffle_f32x4(a, c, 0x88));
        store(to + (j + 4) * to_stride, _mm512_shuffle_f32x4(b, d, 0x88));
        store(to + (j + 8) * to_stride, _mm512_shuffle_f32x4(a, c, 0xdd));
        store(to + (j + 12) * to_stride, _mm512_shuffle_f32x4(b, d, 0xdd));
    }
}

#include "attention/kernel_body.h"

}  // namespace

extern const AttentionKernel ATTENTION_AVX512 = {"avx512", stretch, fold, finish};

}  // namespace trimode
#endif
