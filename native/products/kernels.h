// Products of packed weights with rows of activations, over the vectors V of an instruction set.
//
// An output's bits are the same whichever set computes it, with however many rows beside it: the sum of integers in a
// block is exact, and its float operations come in one order, a fused multiply-add per group of columns (quantized
// types) or per column (float types), columns ascending.
//
// Everything is in an unnamed namespace and nothing of std is used: layout.h says why.
#pragma once

#include "products/layout.h"
#include "products/types.h"

#define PYTRIMODE_INLINE inline __attribute__((always_inline))

namespace trimode::products {
namespace {

template <int I>
struct Index {
    static constexpr int VALUE = I;
};

// f(Index<0>) ... f(Index<N - 1>): a loop whose counter is a constant, as shifts want it.
template <int N, int I = 0, class F>
PYTRIMODE_INLINE void repeat(F && f) {
    if constexpr (I < N) {
        f(Index<I>());
        repeat<N, I + 1>(f);
    }
}

// Columns 4 G to 4 G + 3 of a block, of all rows of the tile, row by row: a value a byte.
// Planes: 8 vectors of bytes, 4 of nibbles (low: groups 0 to 3) or 2 of two bits, then one of the third or fifth bits,
// or two of the fifth and sixth.
template <class V, class T, int G>
PYTRIMODE_INLINE typename V::B values(const uint8_t * in, const typename V::Table & table) {
    constexpr int LOW = T::BITS >= 8 ? 8 : T::BITS >= 4 ? 4 : 2;  // bits of a value in its first plane
    constexpr int LOW_VECTORS = LOW;                              // 64 values of 8 groups
    constexpr int PLANE = LOW == 2 ? G / 4 : G % LOW_VECTORS;
    constexpr int FROM = LOW * (LOW == 2 ? G % 4 : G / LOW_VECTORS);
    typename V::B w = V::load(in + 64 * PLANE);
    w = LOW == 8 ? V::to_byte(w) : V::template bits<FROM, LOW, 0>(w);
    if constexpr (T::BITS == 3 || T::BITS == 5) {
        w = V::either(w, V::template bits<G, 1, LOW>(V::load(in + 64 * LOW_VECTORS)));
    }
    if constexpr (T::BITS == 6) {
        w = V::either(w, V::template bits<G % 4 * 2, 2, LOW>(V::load(in + 64 * (LOW_VECTORS + G / 4))));
    }
    if constexpr (T::IS_INDEX) {
        w = V::lookup(table, w);
    }
    return w;
}

// -(the sum of the activations that meet a part of a block).
template <int Parts>
PYTRIMODE_INLINE const int32_t & minus_sum(const Record & x, int part) {
    return Parts == 1 ? x.minus_sum : x.minus_half[part];
}

// acc + a part of the block's products with one row.
template <class V, class T, int PART>
PYTRIMODE_INLINE typename V::F add_part(typename V::F acc, typename V::I sum, const Scale<V> & scale,
                                        const Record & x) {
    acc = V::fma(V::to_float(sum), V::mul(scale.d, V::broadcast(x.scale)), acc);
    if constexpr (T::MIN) {
        acc = V::fma(scale.m, V::broadcast(T::GROUP == BLOCK ? x.sum : x.half[PART]), acc);
    }
    return acc;
}

// acc[row] + the block's products with row x[row].
template <class V, class T, int R>
PYTRIMODE_INLINE void add_block(typename V::F (&acc)[R], const uint8_t * quants, const typename V::Table & table,
                                const typename T::Scales & scales, int j, const Record * x) {
    constexpr int BITS = T::IS_INDEX ? 8 : T::BITS;
    constexpr int PARTS = BLOCK / T::GROUP;  // with a scale each
    constexpr int N = 8 / PARTS;
    Scale<V> scale[PARTS];
    repeat<PARTS>([&](auto part) __attribute__((always_inline)) {
        scale[decltype(part)::VALUE] = T::template scale<V>(scales, j, decltype(part)::VALUE);
    });
    const auto group = [&](auto g)
                           __attribute__((always_inline)) { return values<V, T, decltype(g)::VALUE>(quants, table); };
    if constexpr (V::HOLDS_BLOCK) {  // row by row
        typename V::B w[8];
        repeat<8>([&](auto g) __attribute__((always_inline)) { w[decltype(g)::VALUE] = group(g); });
        repeat<R>([&](auto r) __attribute__((always_inline)) {
            constexpr int ROW = decltype(r)::VALUE;
            repeat<PARTS>([&](auto part) __attribute__((always_inline)) {
                constexpr int PART = decltype(part)::VALUE;
                const typename V::I sum = V::template dot<BITS, T::OFFSET, N>(w + N * PART, x[ROW].q + 4 * N * PART,
                                                                              minus_sum<PARTS>(x[ROW], PART));
                acc[ROW] = add_part<V, T, PART>(acc[ROW], sum, scale[PART], x[ROW]);
            });
        });
    } else {  // group by group
        repeat<PARTS>([&](auto part) __attribute__((always_inline)) {
            constexpr int PART = decltype(part)::VALUE;
            typename V::I sums[R];
            repeat<R>([&](auto r) __attribute__((always_inline)) {
                constexpr int ROW = decltype(r)::VALUE;
                sums[ROW] = V::template start<BITS, T::OFFSET>(minus_sum<PARTS>(x[ROW], PART));
            });
            V::template add_dots<BITS, N * PART, N>(group, x, sums);
            repeat<R>([&](auto r) __attribute__((always_inline)) {
                constexpr int ROW = decltype(r)::VALUE;
                acc[ROW] = add_part<V, T, PART>(acc[ROW], sums[ROW], scale[PART], x[ROW]);
            });
        });
    }
}

// The first n of a vector.
template <class V>
PYTRIMODE_INLINE void store(float * out, typename V::F x, int64_t n) {
    if (n >= TILE) {
        V::store(out, x);
        return;
    }
    float all[TILE];
    V::store(all, x);
    __builtin_memcpy(out, all, n * sizeof(float));
}

// One tile and R rows of a panel; the next row's records are 1 apart, the next block's `stride`.
template <class V, class T, int R>
void multiply_rows(const Job & job, int64_t tile, const Record * x, int64_t stride, float * out) {
    const int64_t n_blocks = job.weight.n_in / BLOCK;
    const int64_t n_scales = n_blocks / T::SUPER;
    using Scales = typename T::Scales;
    const uint8_t * quants = job.weight.data + tile * (n_blocks * T::QUANT_BYTES + n_scales * int64_t(sizeof(Scales)));
    const auto * scales = reinterpret_cast<const Scales *>(quants + n_blocks * T::QUANT_BYTES);
    const typename V::Table table = V::table(T::VALUES);
    typename V::F acc[R];
    repeat<R>([&](auto r) __attribute__((always_inline)) { acc[decltype(r)::VALUE] = V::zero(); });
    for (int64_t super = 0; super < n_scales; ++super, ++scales) {
        for (int j = 0; j < T::SUPER; ++j, quants += T::QUANT_BYTES, x += stride) {
            for (int i = 0; i < T::QUANT_BYTES; i += 64) {
                __builtin_prefetch(quants + V::PREFETCH + i);
            }
            add_block<V, T, R>(acc, quants, table, *scales, j, x);
        }
    }
    repeat<R>([&](auto r) __attribute__((always_inline)) {
        constexpr int ROW = decltype(r)::VALUE;
        store<V>(out + ROW * job.out_stride + tile * TILE, acc[ROW], job.weight.n_out - tile * TILE);
    });
}

// As many rows at a time as registers allow; `stride` rows are in the panel.
template <class V, class T>
void multiply_panel(const Job & job, int64_t tile, const Record * x, int64_t n_rows, float * out, int64_t stride) {
    const auto take = [&](auto r) __attribute__((always_inline)) {
        constexpr int R = decltype(r)::VALUE;
        while (n_rows >= R) {
            multiply_rows<V, T, R>(job, tile, x, stride, out);
            x += R;
            out += R * job.out_stride;
            n_rows -= R;
        }
    };
    constexpr int ROWS = V::template rows<T::IS_INDEX ? 8 : T::BITS>();
    if constexpr (ROWS >= 8) {
        take(Index<8>());
    }
    if constexpr (ROWS >= 6) {
        take(Index<6>());
    }
    if constexpr (ROWS >= 4) {
        take(Index<4>());
    }
    if constexpr (ROWS >= 3) {
        take(Index<3>());
    }
    take(Index<2>());
    take(Index<1>());
}

// Panel by panel, so that a panel's activations and the tiles' weights stay in the cache.
template <class V, class T>
void multiply_quantized(const Job & job, int64_t tile_begin, int64_t tile_end) {
    const auto * records = static_cast<const Record *>(job.activations);
    const int64_t n_blocks = job.weight.n_in / BLOCK;
    for (int64_t row = 0; row < job.n_rows; row += PANEL) {
        const int64_t n = job.n_rows - row < PANEL ? job.n_rows - row : PANEL;
        for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
            multiply_panel<V, T>(job, tile, records + row * n_blocks, n, job.out + row * job.out_stride, n);
        }
    }
}

// R rows and `N` tiles from `tile` on.
template <class V, class T, int R, int N>
void multiply_floats(const Job & job, int64_t tile, const float * x, float * out) {
    using Value = typename T::Value;
    const int64_t n_in = job.weight.n_in;
    const Value * w = reinterpret_cast<const Value *>(job.weight.data) + tile * TILE * n_in;
    typename V::F acc[R][N];
    for (int r = 0; r < R; ++r) {
        for (int t = 0; t < N; ++t) {
            acc[r][t] = V::zero();
        }
    }
    for (int64_t i = 0; i < n_in; ++i) {
        typename V::F values[N];
        for (int t = 0; t < N; ++t) {
            values[t] = T::template load<V>(w + (t * n_in + i) * TILE);
        }
        for (int r = 0; r < R; ++r) {
            for (int t = 0; t < N; ++t) {
                acc[r][t] = V::fma(values[t], V::broadcast(x[r * job.x_stride + i]), acc[r][t]);
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int t = 0; t < N; ++t) {
            const int64_t first = (tile + t) * TILE;
            store<V>(out + r * job.out_stride + first, acc[r][t], job.weight.n_out - first);
        }
    }
}

// Rows by eights, fours and ones; tiles by fours where that many are left.
template <class V, class T>
void multiply_float_type(const Job & job, int64_t tile_begin, int64_t tile_end) {
    const auto * x = static_cast<const float *>(job.activations);
    const auto rows = [&](auto tiles, int64_t tile) {
        constexpr int N = decltype(tiles)::VALUE;
        int64_t row = 0;
        const auto take = [&](auto r) {
            constexpr int R = decltype(r)::VALUE;
            for (; job.n_rows - row >= R; row += R) {
                multiply_floats<V, T, R, N>(job, tile, x + row * job.x_stride, job.out + row * job.out_stride);
            }
        };
        take(Index<V::FLOAT_ROWS>());
        take(Index<2>());
        take(Index<1>());
    };
    int64_t tile = tile_begin;
    for (; tile + V::FLOAT_TILES <= tile_end; tile += V::FLOAT_TILES) {
        rows(Index<V::FLOAT_TILES>(), tile);
    }
    for (; tile < tile_end; ++tile) {
        rows(Index<1>(), tile);
    }
}

template <class V, class T>
void multiply(const Job & job, int64_t tile_begin, int64_t tile_end) {
    if constexpr (T::FLOAT) {
        multiply_float_type<V, T>(job, tile_begin, tile_end);
    } else {
        multiply_quantized<V, T>(job, tile_begin, tile_end);
    }
}

PYTRIMODE_INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

PYTRIMODE_INLINE float float_of(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

// Plain loops, which the compiler vectorizes for the set; every operation rounds as IEEE 754 says, so all sets agree.
void quantize_block(const float * x, Record & out) {
    uint32_t highest = 0;  // |x| as bits: they rise with it, infinities and NaN above all
    for (int i = 0; i < BLOCK; ++i) {
        const uint32_t bits = bits_of(x[i]) & 0x7fffffff;
        highest = bits > highest ? bits : highest;
    }
    const float max = float_of(highest);
    const bool is_finite = highest < 0x7f800000;
    const float inverse = is_finite && max > 1e-30f ? 127.0f / max : 0.0f;
    const uint32_t exact = bits_of(max / 127.0f);
    const float rounded = float_of((exact + 0xfff + (exact >> 13 & 1)) & ~uint32_t(0x1fff));
    out.scale = !is_finite ? float_of(0x7fc00000) : inverse == 0.0f ? 0.0f : rounded;
    constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: the sum's last bit is worth 1
    int32_t q[BLOCK];
    for (int i = 0; i < BLOCK; ++i) {
        const float shifted = (is_finite ? x[i] : 0.0f) * inverse + ROUND;
        q[i] = static_cast<int32_t>(bits_of(shifted)) - static_cast<int32_t>(bits_of(ROUND));
        out.q[i] = static_cast<int8_t>(q[i]);
    }
    int32_t sums[2] = {0, 0};
    for (int i = 0; i < BLOCK / 2; ++i) {
        sums[0] += q[i];
        sums[1] += q[i + BLOCK / 2];
    }
    for (int g = 0; g < 2; ++g) {
        out.minus_half[g] = -sums[g];
        out.half[g] = out.scale * static_cast<float>(sums[g]);
    }
    out.minus_sum = -(sums[0] + sums[1]);
    out.sum = out.scale * static_cast<float>(sums[0] + sums[1]);
    out.unused = 0.0f;
}

void quantize_row(const float * x, int64_t n, Record * out, int64_t stride) {
    for (int64_t i = 0; i < n; i += BLOCK, out += stride) {
        quantize_block(x + i, *out);
    }
}

template <class V>
constexpr Kernels kernels_over(const char * name) {
    return {name,
            quantize_row,
            {
#define X(type) multiply<V, type>,
                PYTRIMODE_PRODUCT_TYPES(X)
#undef X
            }};
}

}  // namespace
}  // namespace trimode::products
