// What the attention kernels of all instruction sets have in common: what goes in, what comes out, what is to be had.
//
// Attention of a row of one query head q over the cells c that it sees:
//     out = sum_c exp(s_c - m) v_c / sum_c exp(s_c - m),   s_c = scale * q . k_c,   m = max_c s_c
// It is computed over stretches of STRETCH cells, counted from the sequence's first, and the stretches' sums are folded
// together in rising order (the online softmax of FlashAttention, Dao et al. 2022, arXiv:2205.14135). Which stretches
// there are and how a row adds up within one depends on the row's own cells alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include <vector>

namespace trimode {

constexpr int BLOCK = 64;                   // cells that are converted to F32 at a time: a page (PAGE_CELLS)
constexpr int STRETCH = 512;                // cells whose scores are kept at a time
constexpr int SCORE_STRIDE = STRETCH + 16;  // floats between the scores of two queries: other lines of the first cache
constexpr int LANES = 16;  // floats that a kernel handles side by side, whatever the width of its registers
constexpr int TILE = 64;   // queries (rows x query heads of a group) that share a converted block

enum class CellType : int { f32, f16, bf16, q8_0, q4_0, other };

// K or V of one layer: cell c of head h begins at data + c * cell_bytes + h * head_bytes.
struct CellTensor {
    const uint8_t * data;
    size_t cell_bytes, head_bytes;
    CellType type;
    void (*to_float)(const void * from, float * to, int64_t n);  // for CellType::other
};

// What a row sees, by its place in the sequence: cells [0, seen) and [begin, end).
struct RowView {
    int32_t seen;
    int32_t begin, end;
};

// Rows of one sequence and the query heads of one group.
struct AttentionTile {
    const float * q;  // of the first row and head
    float * out;
    size_t q_row, q_head, out_row, out_head;  // distances in floats
    const RowView * rows;
    int n_rows, n_heads, head_dim;
    int n_queries;  // n_rows * n_heads
    int width;      // head_dim in whole LANES
    int n_cells;    // that any of the rows sees
    float scale;
    const int32_t * pages;  // of the sequence
    int kv_head;
    CellTensor k, v;
};

// Floats of the sums over some stretches of `n` queries: the weighted sums of V [n, width], the highest scores [n], the
// sums of exp [n]; in whole cache lines.
constexpr size_t sums_size(int n, int width) { return (size_t(n) * (width + 2) + LANES - 1) / LANES * LANES; }

// Floats that `stretch` needs to work with.
constexpr size_t scratch_size(int n_queries, int width) {
    const int n = n_queries > TILE ? n_queries : TILE;
    return size_t(n) * (width + SCORE_STRIDE) + 2 * size_t(BLOCK) * width + LANES;
}

struct AttentionKernel {
    const char * name;
    // The sums over stretch number `index` of the tile's cells. `scratch` is aligned to 64 bytes.
    void (*stretch)(const AttentionTile & tile, int index, float * sums, float * scratch);
    // total = total and then sums.
    void (*fold)(const AttentionTile & tile, const float * sums, float * total);
    // Sums over all stretches to the tile's output.
    void (*finish)(const AttentionTile & tile, const float * total);
};

// Those that this machine can run, the fastest first.
const std::vector<const AttentionKernel *> & attention_kernels();

// The fastest, or that which PYTRIMODE_ATTENTION names; std::runtime_error for a name that is none of them.
const AttentionKernel & attention_kernel();

}  // namespace trimode
