// NEON, which every 64-bit ARM processor has: 16 lanes are four registers.
#include "attention/kernel_sets.h"

#ifdef TRIMODE_ARM
#include <arm_neon.h>

namespace trimode {

namespace {

struct Lanes {
    float32x4_t v[4];
};

constexpr int QUERIES_BY_CELLS = 8;  // up to so many, transposing K costs more than it saves
constexpr int CELL_QUERIES = 1;
constexpr int SCORE_QUERIES = 4, SCORE_CELLS = 1;
constexpr int VALUE_QUERIES = 4, VALUE_COLUMNS = 1;

template <typename F>
inline Lanes each(F f) {
    return {{f(0), f(1), f(2), f(3)}};
}

inline Lanes load(const float * p) {
    return each([&](int i) { return vld1q_f32(p + 4 * i); });
}
inline void store(float * p, Lanes a) {
    for (int i = 0; i < 4; ++i) {
        vst1q_f32(p + 4 * i, a.v[i]);
    }
}
inline Lanes set(float x) {
    return each([&](int) { return vdupq_n_f32(x); });
}
inline Lanes zero() { return set(0.0f); }
inline Lanes add(Lanes a, Lanes b) {
    return each([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
inline Lanes sub(Lanes a, Lanes b) {
    return each([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
inline Lanes mul(Lanes a, Lanes b) {
    return each([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
inline float32x4_t max_4(float32x4_t a, float32x4_t b) {  // b where either is NaN, as in the other sets
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
inline Lanes max(Lanes a, Lanes b) {
    return each([&](int i) { return max_4(a.v[i], b.v[i]); });
}
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
    return each([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
inline float fma_one(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

inline float f16_value(const uint8_t * p) {
    uint16_t bits;
    __builtin_memcpy(&bits, p, 2);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
}
inline Lanes from_f16(const uint8_t * p) {
    return each([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + 8 * i))); });
}
inline Lanes from_bf16(const uint8_t * p) {
    return each([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p + 8 * i)), 16)); });
}
inline Lanes from_16_bytes(int8x16_t bytes) {
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
}
inline Lanes from_i8(const int8_t * p) { return from_16_bytes(vld1q_s8(p)); }
inline Lanes from_nibbles(const uint8_t * p, int high) {
    const uint8x16_t bytes = vld1q_u8(p);
    const uint8x16_t low = high ? vshrq_n_u8(bytes, 4) : vandq_u8(bytes, vdupq_n_u8(15));
    return from_16_bytes(vsubq_s8(vreinterpretq_s8_u8(low), vdupq_n_s8(8)));
}

// The sums of a, b, c, d over lanes 4 apart: four of each, one behind the other.
inline float32x4_t quad_sum(Lanes a) { return vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3])); }
inline Lanes quad_sums(Lanes a, Lanes b, Lanes c, Lanes d) {
    return {{quad_sum(a), quad_sum(b), quad_sum(c), quad_sum(d)}};
}

// [a0 + a2, a1 + a3, b0 + b2, b1 + b3]
inline float32x4_t pair_sums(float32x4_t a, float32x4_t b) {
    return vaddq_f32(vcombine_f32(vget_low_f32(a), vget_low_f32(b)), vcombine_f32(vget_high_f32(a), vget_high_f32(b)));
}
// Lane 4 i + j: the sum of quad i of argument j.
inline Lanes collect(Lanes a, Lanes b, Lanes c, Lanes d) {
    return each([&](int i) { return vpaddq_f32(pair_sums(a.v[i], b.v[i]), pair_sums(c.v[i], d.v[i])); });
}

inline float sum_lanes(Lanes x) {
    const float32x4_t pairs = pair_sums(quad_sum(x), quad_sum(x));
    return vgetq_lane_f32(vpaddq_f32(pairs, pairs), 0);
}
inline float highest_lane(Lanes x) {
    float32x4_t top = max_4(max_4(x.v[0], x.v[2]), max_4(x.v[1], x.v[3]));
    top = max_4(top, vextq_f32(top, top, 2));
    return vgetq_lane_f32(max_4(top, vextq_f32(top, top, 1)), 0);
}

// 2^n, n the lowest bits of a sum with 1.5 * 2^23.
inline Lanes power_of_two(Lanes shifted) {
    return each([&](int i) {
        const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(shifted.v[i]), 23);
        return vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(0x3f800000)));
    });
}
inline Lanes zero_where_hidden(Lanes x, Lanes score) {
    return each([&](int i) {
        const uint32x4_t hidden = vceqq_f32(score.v[i], vdupq_n_f32(-__builtin_inff()));
        return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x.v[i]), hidden));
    });
}

inline void transpose_4(const float * from, size_t from_stride, float * to, size_t to_stride) {
    float32x4_t rows[4];
    for (int i = 0; i < 4; ++i) {
        rows[i] = vld1q_f32(from + i * from_stride);
    }
    // Columns 0 and 2, 1 and 3, of two rows each.
    const float32x4_t even_01 = vtrn1q_f32(rows[0], rows[1]), odd_01 = vtrn2q_f32(rows[0], rows[1]);
    const float32x4_t even_23 = vtrn1q_f32(rows[2], rows[3]), odd_23 = vtrn2q_f32(rows[2], rows[3]);
    vst1q_f32(to, vcombine_f32(vget_low_f32(even_01), vget_low_f32(even_23)));
    vst1q_f32(to + to_stride, vcombine_f32(vget_low_f32(odd_01), vget_low_f32(odd_23)));
    vst1q_f32(to + 2 * to_stride, vcombine_f32(vget_high_f32(even_01), vget_high_f32(even_23)));
    vst1q_f32(to + 3 * to_stride, vcombine_f32(vget_high_f32(odd_01), vget_high_f32(odd_23)));
}

// 16 x 16.
inline void transpose(const float * from, size_t from_stride, float * to, size_t to_stride) {
    for (int i = 0; i < 16; i += 4) {
        for (int j = 0; j < 16; j += 4) {
            transpose_4(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
        }
    }
}

#include "attention/kernel_body.h"

}  // namespace

extern const AttentionKernel ATTENTION_NEON = {"neon", stretch, fold, finish};

}  // namespace trimode
#endif
