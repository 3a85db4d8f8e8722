// AVX2 with FMA and F16C: 16 lanes are two registers.
#include "attention/kernel_sets.h"

#ifdef TRIMODE_X86
#include <immintrin.h>

namespace trimode {

namespace {

struct Lanes {
    __m256 low, high;
};

constexpr int QUERIES_BY_CELLS = 8;  // up to so many, transposing K costs more than it saves
constexpr int CELL_QUERIES = 1;
constexpr int SCORE_QUERIES = 4, SCORE_CELLS = 1;
constexpr int VALUE_QUERIES = 4, VALUE_COLUMNS = 1;

inline Lanes load(const float * p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float * p, Lanes x) {
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
}
inline Lanes set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Lanes zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Lanes add(Lanes a, Lanes b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Lanes sub(Lanes a, Lanes b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Lanes mul(Lanes a, Lanes b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Lanes max(Lanes a, Lanes b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline float fma_one(float a, float b, float c) {
    return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}

inline float f16_value(const uint8_t * p) {
    uint16_t bits;
    __builtin_memcpy(&bits, p, 2);
    return _cvtsh_ss(bits);
}
inline Lanes from_f16(const uint8_t * p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
            _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16)))};
}
inline __m256 from_8_bf16(const uint8_t * p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
inline Lanes from_bf16(const uint8_t * p) { return {from_8_bf16(p), from_8_bf16(p + 16)}; }
inline Lanes from_16_bytes(__m128i bytes) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
inline Lanes from_i8(const int8_t * p) { return from_16_bytes(_mm_loadu_si128((const __m128i *)p)); }
inline Lanes from_nibbles(const uint8_t * p, int high) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    const __m128i low = _mm_and_si128(high ? _mm_srli_epi16(bytes, 4) : bytes, _mm_set1_epi8(15));
    return from_16_bytes(_mm_sub_epi8(low, _mm_set1_epi8(8)));
}

// The sums of a and b over lanes 4 apart: four of each, one behind the other.
inline __m256 pair_sums(Lanes a, Lanes b) {
    const __m256 a8 = _mm256_add_ps(a.low, a.high), b8 = _mm256_add_ps(b.low, b.high);
    return _mm256_add_ps(_mm256_permute2f128_ps(a8, b8, 0x20), _mm256_permute2f128_ps(a8, b8, 0x31));
}
inline Lanes quad_sums(Lanes a, Lanes b, Lanes c, Lanes d) { return {pair_sums(a, b), pair_sums(c, d)}; }

inline __m256 collect_8(__m256 a, __m256 b, __m256 c, __m256 d) {
    const __m256 ab = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
    const __m256 cd = _mm256_add_ps(_mm256_shuffle_ps(c, d, 0x44), _mm256_shuffle_ps(c, d, 0xee));
    return _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x88), _mm256_shuffle_ps(ab, cd, 0xdd));
}
// Lane 4 i + j: the sum of quad i of argument j.
inline Lanes collect(Lanes a, Lanes b, Lanes c, Lanes d) {
    return {collect_8(a.low, b.low, c.low, d.low), collect_8(a.high, b.high, c.high, d.high)};
}

inline float sum_lanes(Lanes x) {
    const Lanes quad = quad_sums(x, x, x, x);
    return _mm256_cvtss_f32(collect(quad, quad, quad, quad).low);
}
inline float highest_lane(Lanes x) {
    const __m256 top = _mm256_max_ps(x.low, x.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}

// 2^n, n the lowest bits of a sum with 1.5 * 2^23.
inline __m256 power_of_two_8(__m256 shifted) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3f800000)));
}
inline Lanes power_of_two(Lanes shifted) { return {power_of_two_8(shifted.low), power_of_two_8(shifted.high)}; }
inline Lanes zero_where_hidden(Lanes x, Lanes score) {
    const __m256 hidden = _mm256_set1_ps(-__builtin_inff());
    return {_mm256_and_ps(x.low, _mm256_cmp_ps(score.low, hidden, _CMP_NEQ_UQ)),
            _mm256_and_ps(x.high, _mm256_cmp_ps(score.high, hidden, _CMP_NEQ_UQ))};
}

inline void transpose_8(const float * from, size_t from_stride, float * to, size_t to_stride) {
    __m256 rows[8], pairs[8], quads[8];
    for (int i = 0; i < 8; ++i) {
        rows[i] = _mm256_loadu_ps(from + i * from_stride);
    }
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {  // quads[i + j]: of rows i .. i + 3 columns j and j + 4
        quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
        quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
    }
    for (int j = 0; j < 4; ++j) {
        _mm256_storeu_ps(to + j * to_stride, _mm256_permute2f128_ps(quads[j], quads[j + 4], 0x20));
        _mm256_storeu_ps(to + (j + 4) * to_stride, _mm256_permute2f128_ps(quads[j], quads[j + 4], 0x31));
    }
}

// 16 x 16.
inline void transpose(const float * from, size_t from_stride, float * to, size_t to_stride) {
    for (int i = 0; i < 16; i += 8) {
        for (int j = 0; j < 16; j += 8) {
            transpose_8(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
        }
    }
}

#include "attention/kernel_body.h"

}  // namespace

extern const AttentionKernel ATTENTION_AVX2 = {"avx2", stretch, fold, finish};

}  // namespace trimode
#endif
