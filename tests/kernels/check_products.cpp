// Every set of products against the plain one: all types, 1 to 33 rows, a last tile that is not full.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "check.h"
#include "products/products.h"
#include "products/types.h"

using namespace trimode::products;

namespace {

// What pack.cpp asks of ggml.
template <class T>
size_t row_bytes(int64_t n) {
    if constexpr (T::FLOAT) {
        return n * sizeof(typename T::Value);
    } else {
        return n / (BLOCK * T::SUPER) * sizeof(typename T::Block);
    }
}

}  // namespace

extern "C" size_t ggml_row_size(ggml_type type, int64_t n) {
    switch (type) {
#define X(name)            \
    case GGML_TYPE_##name: \
        return row_bytes<name>(n);
        PYTRIMODE_PRODUCT_TYPES(X)
#undef X
        default:
            throw std::logic_error("a type without products");
    }
}

extern "C" const char * ggml_type_name(ggml_type type) {
    switch (type) {
#define X(name)            \
    case GGML_TYPE_##name: \
        return #name;
        PYTRIMODE_PRODUCT_TYPES(X)
#undef X
        default:
            return "";
    }
}

namespace {

constexpr int N_ROWS = 33, N_IN = 768;
constexpr int X_STRIDE = N_IN + 3, OUT_GAP = 5;
constexpr float UNTOUCHED = -12345.0f;

// Each field that a type's block has.
template <class B>
auto scale(B & block, Random & random, int) -> decltype(void(block.d)) {
    block.d = random.half();
}
template <class B>
auto minimum(B & block, Random & random, int) -> decltype(void(block.m)) {
    block.m = random.half();
}
template <class B>
auto super_minimum(B & block, Random & random, int) -> decltype(void(block.dmin)) {
    block.dmin = random.half();
}
template <class B>
auto exponent(B & block, Random & random, int) -> decltype(void(block.exponent)) {
    block.exponent = static_cast<uint8_t>(100 + random.below(40));
}
template <class B>
void scale(B &, Random &, long) {}
template <class B>
void minimum(B &, Random &, long) {}
template <class B>
void super_minimum(B &, Random &, long) {}
template <class B>
void exponent(B &, Random &, long) {}

template <class T>
std::vector<uint8_t> random_rows(int64_t n_out, Random & random) {
    std::vector<uint8_t> rows(n_out * row_bytes<T>(N_IN));
    if constexpr (T::FLOAT) {
        for (size_t i = 0; i < rows.size(); i += sizeof(typename T::Value)) {
            const float value = random.value();
            const uint16_t half = sizeof(typename T::Value) == 4 ? 0
                                  : std::is_same_v<T, F16>       ? random.half()
                                                                 : bfloat(value);
            std::memcpy(&rows[i], sizeof(typename T::Value) == 4 ? static_cast<const void *>(&value) : &half,
                        sizeof(typename T::Value));
        }
    } else {
        typename T::Block block;
        for (size_t i = 0; i < rows.size(); i += sizeof block) {
            random.fill(&block, sizeof block);
            scale(block, random, 0);
            minimum(block, random, 0);
            super_minimum(block, random, 0);
            exponent(block, random, 0);
            std::memcpy(&rows[i], &block, sizeof block);
        }
    }
    return rows;
}

// With outliers, a block of zeros, halves that round to the even, and very small and large values.
std::vector<float> random_activations(Random & random) {
    std::vector<float> x(N_ROWS * X_STRIDE);
    for (int row = 0; row < N_ROWS; ++row) {
        float * values = &x[row * X_STRIDE];
        for (int i = 0; i < N_IN; ++i) {
            values[i] = random.value() * (row == 4 ? 0x1p-120f : row == 5 ? 0x1p60f : row == 6 ? 0x1p-140f : 1.0f);
        }
        values[5] *= 40.0f;
    }
    std::fill_n(&x[64], 32, 0.0f);
    for (int i = 0; i < N_IN; ++i) {
        x[3 * X_STRIDE + i] = i % BLOCK == 0 ? 127.0f : static_cast<float>(i % 64) - 31.5f;
    }
    return x;
}

// Rows in panels, as the operation of the graph lays them out.
std::vector<Record> quantized(const Kernels & set, const std::vector<float> & x, int n_rows) {
    constexpr int64_t N_BLOCKS = N_IN / BLOCK;
    std::vector<Record> records(n_rows * N_BLOCKS);
    for (int row = 0; row < n_rows; ++row) {
        const int first = row / PANEL * PANEL;
        set.quantize(&x[row * X_STRIDE], N_IN, &records[first * N_BLOCKS + row - first],
                     std::min(n_rows - first, PANEL));
    }
    return records;
}

std::vector<float> product(const Kernels & set, const PackedWeight & weight, const std::vector<float> & x, int n_rows) {
    const int64_t out_stride = weight.n_out() + OUT_GAP;
    std::vector<float> out(n_rows * out_stride, UNTOUCHED);
    std::vector<Record> records;
    Job job{weight.weight(), x.data(), n_rows, X_STRIDE, out.data(), out_stride};
    if (!takes_floats(weight.type())) {
        records = quantized(set, x, n_rows);
        job.activations = records.data();
    }
    const int64_t middle = n_rows % (weight.n_tiles() + 1);  // two threads' shares
    weight.kernel(set)(job, 0, middle);
    weight.kernel(set)(job, middle, weight.n_tiles());
    return out;
}

bool equal_bits(const void * a, const void * b, size_t n) { return std::memcmp(a, b, n) == 0; }

template <class T>
int check_type(ggml_type type, int64_t n_out, const std::vector<float> & x, Random & random, uint64_t & hash) {
    PackedWeight weight(type, N_IN, n_out);
    weight.allocate();
    const std::vector<uint8_t> rows = random_rows<T>(n_out, random);
    weight.pack(rows.data(), 0, weight.n_tiles());
    const std::vector<float> expected = product(*available().back(), weight, x, N_ROWS);
    hash = hashed(hash, expected.data(), expected.size() * sizeof(float));
    int wrong = 0;
    if (!std::all_of(expected.begin(), expected.end(), [](float f) { return std::isfinite(f); })) {
        std::printf("products %s: the plain result is not finite\n", ggml_type_name(type));
        ++wrong;
    }
    for (const Kernels * set : available()) {
        for (int n = 1; n <= N_ROWS; ++n) {
            const std::vector<float> out = product(*set, weight, x, n);
            if (!equal_bits(out.data(), expected.data(), out.size() * sizeof(float))) {
                std::printf("products %s, %d outputs, %d rows: %s differs from plain\n", ggml_type_name(type),
                            static_cast<int>(n_out), n, set->name);
                ++wrong;
            }
        }
    }
    return wrong;
}

int check_quantize(std::vector<float> x) {
    x[7 * X_STRIDE + 40] = INFINITY;
    x[8 * X_STRIDE + 41] = -NAN;
    const std::vector<Record> expected = quantized(*available().back(), x, N_ROWS);
    int wrong = 0;
    for (const Kernels * set : available()) {
        const std::vector<Record> records = quantized(*set, x, N_ROWS);
        if (!equal_bits(records.data(), expected.data(), records.size() * sizeof(Record))) {
            std::printf("products: the activations of %s differ from plain\n", set->name);
            ++wrong;
        }
    }
    return wrong;
}

}  // namespace

int check_products(std::set<std::string> & ran, uint64_t & hash) {
    for (const Kernels * set : available()) {
        ran.insert(std::string("products/") + set->name);
    }
    Random random(1);
    const std::vector<float> x = random_activations(random);
    int wrong = check_quantize(x);
    for (const int64_t n_out : {72, 7}) {
#define X(name) wrong += check_type<name>(GGML_TYPE_##name, n_out, x, random, hash);
        PYTRIMODE_PRODUCT_TYPES(X)
#undef X
    }
    return wrong;
}
