// What the sets of kernels share: the packed weights, the quantized activations, and a product of the two.
//
// Plain data only. The sets are compiled for different processors, so a header that several of them include may have no
// function outside an unnamed namespace: the linker keeps one copy of a shared one, and that may be the wrong one.
#pragma once

#include <cstdint>

namespace trimode::products {

constexpr int TILE = 16;   // outputs (rows of a weight matrix) that lie side by side
constexpr int BLOCK = 32;  // columns that share a scale of the activations
constexpr int PANEL = 16;  // rows of activations that lie side by side

// A row's activations in the columns of one block: x = scale * q. Rows of a panel follow each other, then comes the
// next block. The sums are what weights with an offset (q - 8) or a minimum (d * q + m) need besides the product of the
// q.
struct alignas(64) Record {
    int8_t q[BLOCK];        // -127 to 127
    float scale;            // highest |x| / 127, rounded to the 11 bits of a half's significand as in ggml's Q8_0
    int32_t minus_sum;      // -(sum of q)
    int32_t minus_half[2];  // the same of the first and of the last 16 columns
    float sum;              // scale * (sum of q)
    float half[2];
    float unused;
};

// A weight matrix: tiles of TILE outputs. The tile of a quantized type is the quants of all blocks, then the scales of
// all (super-)blocks; that of a float type is TILE values per column.
struct Weight {
    const uint8_t * data;  // aligned to 64 bytes
    int64_t n_in;          // columns
    int64_t n_out;         // not counting what fills the last tile
};

// out[row * out_stride + output] = activations[row] . weight[output]
struct Job {
    Weight weight;
    const void * activations;  // Record in panels (quantized types) or floats, x_stride apart (float types)
    int64_t n_rows;
    int64_t x_stride;
    float * out;
    int64_t out_stride;
};

using QuantizeRow = void(const float * x, int64_t n, Record * out, int64_t stride);  // out[block * stride]
using Multiply = void(const Job & job, int64_t tile_begin, int64_t tile_end);

// Order of the types in Kernels::multiply; a type's own place is types.h.
#define PYTRIMODE_PRODUCT_TYPES(X) \
    X(Q4_0)                        \
    X(Q4_1)                        \
    X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS) X(MXFP4) X(F32) X(F16) X(BF16)

enum TypeIndex {
#define X(name) INDEX_##name,
    PYTRIMODE_PRODUCT_TYPES(X)
#undef X
        N_TYPES
};

// The kernels for one instruction set.
struct Kernels {
    const char * name;
    QuantizeRow * quantize;
    Multiply * multiply[N_TYPES];
};

}  // namespace trimode::products
