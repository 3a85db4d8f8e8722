// The vectors of kernels.h in NEON with its dot products of bytes, four registers each; with its products of matrices
// (i8mm) where compiled so. Both take signed bytes as they are, and unsigned ones have 6 bits at most here.
#pragma once

#include <arm_neon.h>

#include "products/kernels.h"

namespace trimode::products {
namespace {

struct Neon {
    struct B {
        uint8x16_t v[4];
    };
    struct I {
        int32x4_t v[4];
    };
    struct F {
        float32x4_t v[4];
    };
    using Table = int8x16_t;
    static constexpr bool HOLDS_BLOCK = false;  // 8 groups of 4 registers, of 32
    template <int Bits>
    static constexpr int rows() {
        return 4;  // 16 registers of sums, 4 of activations, 4 of weights and what unpacks them
    }
    static constexpr int FLOAT_ROWS = 4, FLOAT_TILES = 1;
    static constexpr int PREFETCH = 4096;
#ifdef __ARM_FEATURE_MATMUL_INT8
    static constexpr bool MATMUL = true;
#else
    static constexpr bool MATMUL = false;
#endif

    template <class Vector, class Value>
    static PYTRIMODE_INLINE Vector each(Value value) {
        return {{value(0), value(1), value(2), value(3)}};
    }

    static PYTRIMODE_INLINE B load(const uint8_t * p) {
        return each<B>([&](int i) __attribute__((always_inline)) { return vld1q_u8(p + 16 * i); });
    }
    static PYTRIMODE_INLINE B either(B a, B b) {
        return each<B>([&](int i) __attribute__((always_inline)) { return vorrq_u8(a.v[i], b.v[i]); });
    }
    static PYTRIMODE_INLINE B to_byte(B b) { return b; }
    static PYTRIMODE_INLINE Table table(const int8_t * values) { return values ? vld1q_s8(values) : vdupq_n_s8(0); }
    static PYTRIMODE_INLINE B lookup(Table t, B index) {
        return each<B>([&](int i)
                           __attribute__((always_inline)) { return vreinterpretq_u8_s8(vqtbl1q_s8(t, index.v[i])); });
    }

    // Bits [from, from + n) of each byte, moved to [to, to + n).
    template <int From, int N, int To>
    static PYTRIMODE_INLINE B bits(B b) {
        constexpr uint8_t MASK = static_cast<uint8_t>(((1 << N) - 1) << To);
        for (uint8x16_t & v : b.v) {
            if constexpr (From > To) {
                v = vshrq_n_u8(v, From - To);
            } else if constexpr (From < To) {
                v = vshlq_n_u8(v, To - From);
            }
            if constexpr (From <= To || From + N < 8 || To > 0) {  // else the shift leaves nothing beside them
                v = vandq_u8(v, vdupq_n_u8(MASK));
            }
        }
        return b;
    }

    // Computes `v` here: GCC would mix the groups of a block, more of them than there are registers.
    static PYTRIMODE_INLINE void settle(int32x4_t & v) { asm volatile("" : "+w"(v)); }

    // What the sums of (w - offset) * q begin with.
    template <int Bits, int Offset>
    static PYTRIMODE_INLINE I start(const int32_t & minus_sum) {
        const int32x4_t v = Offset == 0 ? vdupq_n_s32(0) : vdupq_n_s32(Offset * minus_sum);
        return {{v, v, v, v}};
    }

    // sum[row] + the products of groups FIRST to FIRST + N - 1. Two groups meet all rows before the next are unpacked:
    // by dot products, or four rows by products of matrices, 2 x 8 by 8 x 2, where there are such (for fewer rows the
    // zips cost what these save).
    template <int Bits, int FIRST, int N, class W, int R>
    static PYTRIMODE_INLINE void add_dots(const W & w, const Record * x, I (&sum)[R]) {
        constexpr int PAIRED = MATMUL && R == 4 ? R : 0;
        swap_halves<PAIRED>(sum);
        repeat<N / 2>([&](auto two) __attribute__((always_inline)) {
            constexpr int G = FIRST + 2 * decltype(two)::VALUE;
            int8x8_t q[R];
            repeat<R>([&](auto r) __attribute__((always_inline)) {
                constexpr int ROW = decltype(r)::VALUE;
                q[ROW] = vld1_s8(x[ROW].q + 4 * G);
            });
            B v[2];
            repeat<2>([&](auto c) __attribute__((always_inline)) {
                constexpr int C = decltype(c)::VALUE;
                v[C] = w(Index<G + C>());
                repeat<R - PAIRED>([&](auto r) __attribute__((always_inline)) {
                    constexpr int ROW = PAIRED + decltype(r)::VALUE;
                    for (int i = 0; i < 4; ++i) {
                        sum[ROW].v[i] = vdotq_lane_s32(sum[ROW].v[i], vreinterpretq_s8_u8(v[C].v[i]), q[ROW], C);
                        settle(sum[ROW].v[i]);
                    }
                });
            });
#ifdef __ARM_FEATURE_MATMUL_INT8
            if constexpr (PAIRED > 0) {
                const B w[2] = {of_eight_columns(v[0].v[0], v[1].v[0], v[0].v[1], v[1].v[1]),
                                of_eight_columns(v[0].v[2], v[1].v[2], v[0].v[3], v[1].v[3])};
                repeat<PAIRED / 2>([&](auto p) __attribute__((always_inline)) {
                    constexpr int ROW = 2 * decltype(p)::VALUE;
                    const int8x16_t both = vcombine_s8(q[ROW], q[ROW + 1]);
                    for (int i = 0; i < 8; ++i) {  // outputs 2 i and 2 i + 1
                        int32x4_t & four = sum[ROW + i % 2].v[i / 2];
                        four = vmmlaq_s32(four, both, vreinterpretq_s8_u8(w[i / 4].v[i % 4]));
                        settle(four);
                    }
                });
            }
#endif
        });
        swap_halves<PAIRED>(sum);
    }

    // Outputs 0 and 1 of rows 2 p and 2 p + 1 into one register, 2 and 3 into another; and back.
    template <int PAIRED, int R>
    static PYTRIMODE_INLINE void swap_halves(I (&sum)[R]) {
        repeat<PAIRED / 2>([&](auto p) __attribute__((always_inline)) {
            constexpr int ROW = 2 * decltype(p)::VALUE;
            for (int i = 0; i < 4; ++i) {
                const int32x4_t a = sum[ROW].v[i], b = sum[ROW + 1].v[i];
                sum[ROW].v[i] = vcombine_s32(vget_low_s32(a), vget_low_s32(b));
                sum[ROW + 1].v[i] = vcombine_s32(vget_high_s32(a), vget_high_s32(b));
            }
        });
    }

    // Of four outputs each columns 0 to 3 (a, c) and 4 to 7 (b, d): two outputs and eight columns in a register.
    static PYTRIMODE_INLINE uint8x16_t zipped(uint8x16_t a, uint8x16_t b, bool high) {
        const uint32x4_t x = vreinterpretq_u32_u8(a), y = vreinterpretq_u32_u8(b);
        return vreinterpretq_u8_u32(high ? vzip2q_u32(x, y) : vzip1q_u32(x, y));
    }
    static PYTRIMODE_INLINE B of_eight_columns(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d) {
        return {{zipped(a, b, false), zipped(a, b, true), zipped(c, d, false), zipped(c, d, true)}};
    }

    static PYTRIMODE_INLINE F zero() { return broadcast(0.0f); }
    static PYTRIMODE_INLINE F broadcast(float x) {
        const float32x4_t v = vdupq_n_f32(x);
        return {{v, v, v, v}};
    }
    static PYTRIMODE_INLINE F to_float(I a) {
        return each<F>([&](int i) __attribute__((always_inline)) { return vcvtq_f32_s32(a.v[i]); });
    }
    static PYTRIMODE_INLINE F mul(F a, F b) {
        return each<F>([&](int i) __attribute__((always_inline)) { return vmulq_f32(a.v[i], b.v[i]); });
    }
    static PYTRIMODE_INLINE F fma(F a, F b, F c) {
        return each<F>([&](int i) __attribute__((always_inline)) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
    }
    static PYTRIMODE_INLINE F load(const float * p) {
        return each<F>([&](int i) __attribute__((always_inline)) { return vld1q_f32(p + 4 * i); });
    }
    static PYTRIMODE_INLINE void store(float * p, F f) {
        for (int i = 0; i < 4; ++i) {
            vst1q_f32(p + 4 * i, f.v[i]);
        }
    }

    static PYTRIMODE_INLINE F from_half(const uint16_t * p) {
        return each<F>([&](int i) __attribute__((always_inline)) {
            return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
        });
    }
    static PYTRIMODE_INLINE F from_bfloat(const uint16_t * p) {
        return each<F>([&](int i) __attribute__((always_inline)) {
            return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
        });
    }
    static PYTRIMODE_INLINE F from_signed(const int8_t * p) {
        const int8x16_t bytes = vld1q_s8(p);
        const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
        return to_float(
            {{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)}});
    }

    struct U {
        uint32x4_t v[4];
    };
    static PYTRIMODE_INLINE U widen(uint8x16_t bytes) {
        const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
        return {
            {vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)}};
    }
    static PYTRIMODE_INLINE F floats(uint8x16_t bytes) {
        const U u = widen(bytes);
        return each<F>([&](int i) __attribute__((always_inline)) { return vcvtq_f32_u32(u.v[i]); });
    }
    static PYTRIMODE_INLINE F from_unsigned(const uint8_t * p) { return floats(vld1q_u8(p)); }
    static PYTRIMODE_INLINE F low_nibbles(const uint8_t * p) { return floats(vandq_u8(vld1q_u8(p), vdupq_n_u8(15))); }
    static PYTRIMODE_INLINE F high_nibbles(const uint8_t * p) { return floats(vshrq_n_u8(vld1q_u8(p), 4)); }
    // 2^(e - 127); 0 for e = 0.
    static PYTRIMODE_INLINE F power_of_two(const uint8_t * p) {
        const U u = widen(vld1q_u8(p));
        return each<F>([&](int i)
                           __attribute__((always_inline)) { return vreinterpretq_f32_u32(vshlq_n_u32(u.v[i], 23)); });
    }
};

}  // namespace
}  // namespace trimode::products
