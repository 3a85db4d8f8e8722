// AMX: the integer products of FEWEST to 16 rows with a tile, a block at a time. Fewer rows, floats, and types with a
// scale per 16 columns, which would leave half of the matrix unit idle, as AVX-512 VNNI does them.
#include "products/vectors_avx512.h"

namespace trimode::products {
namespace {

// AMX takes signed bytes as they are.
struct Signed : Avx512 {
    static PYTRIMODE_INLINE B to_byte(B v) { return v; }
    static PYTRIMODE_INLINE Table table(const int8_t * values) {
        return values ? _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i *>(values)))
                      : _mm512_setzero_si512();
    }
};

struct alignas(64) TileConfig {
    uint8_t palette, start_row;
    uint8_t reserved[14];
    uint16_t columns[16];  // bytes
    uint8_t rows[16];
};

// The tile registers.
enum { SUM_TILE, ACTIVATION_TILE, WEIGHT_TILE };

// Written as assembly: what a compiler knows of these instructions differs, and some lose the configuration's stores
// (GCC bug 114098).
PYTRIMODE_INLINE void configure(int n_rows) {
    TileConfig config = {};
    config.palette = 1;
    config.rows[SUM_TILE] = config.rows[ACTIVATION_TILE] = static_cast<uint8_t>(n_rows);
    config.rows[WEIGHT_TILE] = BLOCK / 4;
    config.columns[SUM_TILE] = config.columns[WEIGHT_TILE] = 64;
    config.columns[ACTIVATION_TILE] = BLOCK;
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

PYTRIMODE_INLINE void release() { asm volatile("tilerelease" : : : "memory"); }

// sums[row][output] = the products of records (64 bytes apart), as many as configured, with the values of a block.
PYTRIMODE_INLINE void multiply_block(const int8_t * x, const uint8_t * w, int32_t * sums) {
    asm volatile(
        "tileloadd (%0, %3), %%tmm1\n\ttileloadd (%1, %3), %%tmm2\n\ttilezero %%tmm0\n\t"
        "tdpbssd %%tmm2, %%tmm1, %%tmm0\n\ttilestored %%tmm0, (%2, %3)"
        :
        : "r"(x), "r"(w), "r"(sums), "r"(int64_t(64))
        : "memory");
}

template <class T, int R>
PYTRIMODE_INLINE void add_sums(Signed::F (&acc)[R], const int32_t (&sums)[PANEL][TILE], const Scale<Signed> & scale,
                               const Record * x) {
    repeat<R>([&](auto r) __attribute__((always_inline)) {
        constexpr int ROW = decltype(r)::VALUE;
        Signed::I sum = _mm512_load_si512(sums[ROW]);
        if constexpr (T::OFFSET != 0) {
            const Signed::I minus = _mm512_slli_epi32(_mm512_set1_epi32(x[ROW].minus_sum), __builtin_ctz(T::OFFSET));
            sum = _mm512_add_epi32(sum, minus);
        }
        const Signed::F factor = Signed::mul(scale.d, Signed::broadcast(x[ROW].scale));
        acc[ROW] = Signed::fma(Signed::to_float(sum), factor, acc[ROW]);
        if constexpr (T::MIN) {
            acc[ROW] = Signed::fma(scale.m, Signed::broadcast(x[ROW].sum), acc[ROW]);
        }
    });
}

constexpr int FEWEST = 8;  // rows for which the matrix unit pays

// What one unit stores another can load only when it has reached the cache: values are unpacked and sums multiplied by
// the matrix unit so many blocks before they are used.
constexpr int VALUES_AHEAD = 6, SUMS_AHEAD = 2;
constexpr int UNPACKED = 8, SUMS = 4;  // blocks in the rings of both

// As multiply_rows, the tile registers being configured for R rows.
template <class T, int R>
void multiply_rows_amx(const Job & job, int64_t tile, const Record * x, int64_t stride, float * out) {
    using Scales = typename T::Scales;
    const int64_t n_blocks = job.weight.n_in / BLOCK;
    const uint8_t * quants =
        job.weight.data + tile * (n_blocks * T::QUANT_BYTES + n_blocks / T::SUPER * int64_t(sizeof(Scales)));
    const auto * scales = reinterpret_cast<const Scales *>(quants + n_blocks * T::QUANT_BYTES);
    const Signed::Table table = Signed::table(T::VALUES);
    alignas(64) uint8_t unpacked[UNPACKED][TILE * BLOCK];
    alignas(64) int32_t sums[SUMS][PANEL][TILE];
    Signed::F acc[R];
    repeat<R>([&](auto r) __attribute__((always_inline)) { acc[decltype(r)::VALUE] = Signed::zero(); });

    const auto unpack_values = [&](int64_t block) __attribute__((always_inline)) {
        const uint8_t * in = quants + block * T::QUANT_BYTES;
        for (int b = 0; b < T::QUANT_BYTES; b += 64) {
            __builtin_prefetch(in + Signed::PREFETCH + b);
        }
        if constexpr (T::BITS < 8) {
            repeat<8>([&](auto g) __attribute__((always_inline)) {
                constexpr int G = decltype(g)::VALUE;
                _mm512_store_si512(unpacked[block % UNPACKED] + 64 * G, values<Signed, T, G>(in, table));
            });
        }
    };
    const auto sum = [&](int64_t block) __attribute__((always_inline)) {
        const uint8_t * w = T::BITS < 8 ? unpacked[block % UNPACKED] : quants + block * T::QUANT_BYTES;
        multiply_block((x + block * stride)->q, w, sums[block % SUMS][0]);
    };
    for (int64_t block = -VALUES_AHEAD; block < n_blocks; ++block) {
        if (block + VALUES_AHEAD < n_blocks) {
            unpack_values(block + VALUES_AHEAD);
        }
        if (block + SUMS_AHEAD >= 0 && block + SUMS_AHEAD < n_blocks) {
            sum(block + SUMS_AHEAD);
        }
        if (block < 0) {
            continue;
        }
        const auto scale = T::template scale<Signed>(scales[block / T::SUPER], static_cast<int>(block % T::SUPER), 0);
        add_sums<T, R>(acc, sums[block % SUMS], scale, x + block * stride);
    }
    repeat<R>([&](auto r) __attribute__((always_inline)) {
        constexpr int ROW = decltype(r)::VALUE;
        store<Signed>(out + ROW * job.out_stride + tile * TILE, acc[ROW], job.weight.n_out - tile * TILE);
    });
}

// One panel and all tiles: R rows by AMX, the rest as without.
template <class T, int R>
void multiply_panel_amx(const Job & job, int64_t tile_begin, int64_t tile_end, const Record * x, int64_t n_rows,
                        float * out) {
    configure(R);
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
        multiply_rows_amx<T, R>(job, tile, x, n_rows, out);
    }
    release();
}

template <class T>
constexpr bool suits_amx() {
    if constexpr (T::FLOAT) {
        return false;
    } else {
        return T::GROUP == BLOCK;
    }
}

template <class T>
void multiply_amx(const Job & job, int64_t tile_begin, int64_t tile_end) {
    if constexpr (!suits_amx<T>()) {
        multiply<Avx512, T>(job, tile_begin, tile_end);
    } else {
        const auto * records = static_cast<const Record *>(job.activations);
        for (int64_t row = 0; row < job.n_rows; row += PANEL) {
            const int64_t n = job.n_rows - row < PANEL ? job.n_rows - row : PANEL;
            const Record * x = records + row * (job.weight.n_in / BLOCK);
            float * out = job.out + row * job.out_stride;
            int64_t done = 0;
            const auto take = [&](auto r) __attribute__((always_inline)) {
                constexpr int R = decltype(r)::VALUE;
                if (n - done >= R) {
                    multiply_panel_amx<T, R>(job, tile_begin, tile_end, x + done, n, out + done * job.out_stride);
                    done += R;
                }
            };
            // As many as there are, so that none of them has the weights read once more.
            repeat<PANEL - FEWEST + 1>(
                [&](auto i) __attribute__((always_inline)) { take(Index<PANEL - decltype(i)::VALUE>()); });
            for (int64_t tile = tile_begin; done < n && tile < tile_end; ++tile) {
                multiply_panel<Avx512, T>(job, tile, x + done, n - done, out + done * job.out_stride, n);
            }
        }
    }
}

}  // namespace

extern const Kernels KERNELS_AMX;
const Kernels KERNELS_AMX = {"amx",
                             quantize_row,
                             {
#define X(type) multiply_amx<type>,
                                 PYTRIMODE_PRODUCT_TYPES(X)
#undef X
                             }};

}  // namespace trimode::products
