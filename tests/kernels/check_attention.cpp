// Every set of attention kernels against the plain one: sums, totals and results of 1 to 36 queries in every type of
// cell.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include "attention/kernel.h"
#include "check.h"

using namespace trimode;

namespace {

constexpr int N_HEADS = 4, N_HEADS_KV = 2;  // query heads of one group; groups

struct Case {
    CellType type;
    int head_dim, n_rows, n_cells;
};

// A type's bytes of `n` values.
size_t bytes_of(CellType type, int n) {
    switch (type) {
        case CellType::f16:
        case CellType::bf16:
            return 2 * n;
        case CellType::q8_0:
            return n / 32 * 34;
        case CellType::q4_0:
            return n / 32 * 18;
        default:
            return 4 * n;
    }
}

std::vector<uint8_t> random_cells(CellType type, int n, Random & random) {
    std::vector<uint8_t> cells(bytes_of(type, n));
    if (type == CellType::q8_0 || type == CellType::q4_0) {
        const size_t block = bytes_of(type, 32);
        random.fill(cells.data(), cells.size());
        for (size_t i = 0; i < cells.size(); i += block) {
            const uint16_t scale = random.half() & 0xa3ff;  // up to 2^-6
            std::memcpy(&cells[i], &scale, 2);
        }
        return cells;
    }
    for (int i = 0; i < n; ++i) {
        const float value = random.value();
        const uint16_t half = type == CellType::f16 ? random.half() : bfloat(value);
        const size_t size = bytes_of(type, 1);
        std::memcpy(&cells[i * size], size == 4 ? static_cast<const void *>(&value) : &half, size);
    }
    return cells;
}

void copy_floats(const void * from, float * to, int64_t n) { std::memcpy(to, from, n * sizeof(float)); }

// All that a kernel writes: the sums of each stretch, their total, the output.
std::vector<float> results(const AttentionKernel & kernel, AttentionTile tile) {
    const size_t size = sums_size(tile.n_queries, tile.width);
    const size_t n_used = size_t(tile.n_queries) * (tile.width + 2);
    const int n_stretches = (tile.n_cells + STRETCH - 1) / STRETCH;
    std::vector<float> all, out(tile.n_queries * tile.head_dim);
    std::vector<float> storage(2 * size + scratch_size(tile.n_queries, tile.width) + LANES);
    float * total = storage.data();
    total += (64 - reinterpret_cast<uintptr_t>(total) % 64) % 64 / sizeof(float);
    float *sums = total + size, *scratch = sums + size;
    std::fill_n(total + size_t(tile.n_queries) * tile.width, tile.n_queries, -INFINITY);
    for (int i = 0; i < n_stretches; ++i) {
        kernel.stretch(tile, i, sums, scratch);
        all.insert(all.end(), sums, sums + n_used);
        kernel.fold(tile, sums, total);
    }
    all.insert(all.end(), total, total + n_used);
    tile.out = out.data();
    kernel.finish(tile, total);
    all.insert(all.end(), out.begin(), out.end());
    return all;
}

int check_case(const Case & c, Random & random, uint64_t & hash) {
    const int n_pages = (c.n_cells + BLOCK - 1) / BLOCK;
    const size_t head_bytes = bytes_of(c.type, c.head_dim), cell_bytes = N_HEADS_KV * head_bytes;
    const int n_values = n_pages * BLOCK * N_HEADS_KV * c.head_dim;
    const std::vector<uint8_t> k = random_cells(c.type, n_values, random), v = random_cells(c.type, n_values, random);
    std::vector<float> q(c.n_rows * N_HEADS * c.head_dim);
    std::generate(q.begin(), q.end(), [&] { return random.value(); });
    std::vector<int32_t> pages(n_pages);
    std::iota(pages.begin(), pages.end(), 0);
    std::reverse(pages.begin(), pages.end());
    std::vector<RowView> rows(c.n_rows);  // the last sees all, the others less, some of them a piece further on
    for (RowView & row : rows) {
        row.seen = 1 + random.below(c.n_cells);
        row.begin = row.seen + random.below(c.n_cells - row.seen + 1);
        row.end = row.begin + random.below(c.n_cells - row.begin + 1);
    }
    rows.back() = {c.n_cells, 0, 0};

    AttentionTile tile = {};
    tile.q = q.data();
    tile.q_row = tile.out_row = size_t(N_HEADS) * c.head_dim;
    tile.q_head = tile.out_head = c.head_dim;
    tile.rows = rows.data();
    tile.n_rows = c.n_rows;
    tile.n_heads = N_HEADS;
    tile.head_dim = c.head_dim;
    tile.n_queries = c.n_rows * N_HEADS;
    tile.width = (c.head_dim + LANES - 1) / LANES * LANES;
    tile.n_cells = c.n_cells;
    tile.scale = 0.11f;
    tile.pages = pages.data();
    tile.kv_head = 1;
    tile.k = {k.data(), cell_bytes, head_bytes, c.type, copy_floats};
    tile.v = {v.data(), cell_bytes, head_bytes, c.type, copy_floats};

    const std::vector<float> expected = results(*attention_kernels().back(), tile);
    hash = hashed(hash, expected.data(), expected.size() * sizeof(float));
    int wrong = 0;
    if (std::any_of(expected.begin(), expected.end(), [](float f) { return std::isnan(f); })) {
        std::printf("attention: the plain result has NaN\n");
        ++wrong;
    }
    for (const AttentionKernel * kernel : attention_kernels()) {
        const std::vector<float> found = results(*kernel, tile);
        if (std::string(kernel->name) != "unfused" &&
            std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) != 0) {
            std::printf("attention, cells of type %d, %d rows, %d cells, head_dim %d: %s differs from plain\n",
                        static_cast<int>(c.type), c.n_rows, c.n_cells, c.head_dim, kernel->name);
            ++wrong;
        }
    }
    return wrong;
}

}  // namespace

int check_attention(std::set<std::string> & ran, uint64_t & hash) {
    for (const AttentionKernel * kernel : attention_kernels()) {
        ran.insert(std::string("attention/") + kernel->name);
    }
    Random random(2);
    int wrong = 0;
    for (const CellType type : {CellType::f32, CellType::f16, CellType::bf16, CellType::q8_0, CellType::q4_0}) {
        for (const int n_rows : {1, 2, 5, 9}) {
            for (const int n_cells : {1, 63, 500, 1100}) {
                wrong += check_case({type, n_rows == 2 ? 128 : 64, n_rows, n_cells}, random, hash);
            }
        }
    }
    wrong += check_case({CellType::other, 72, 3, 100}, random, hash);
    return wrong;
}
