// How the attention of a pass is cut: which rows are computed together, and which cells they read.
#pragma once

#include <tuple>
#include <vector>

#include "forward/batch.h"

namespace trimode {

constexpr int CELL_BUCKET = 256;  // attention reads whole stretches of this many cells

// Rows whose attention is one operation: [begin, begin + count), computed with `padded` >= count query rows over the
// cells [first_kv, first_kv + n_kv).
struct AttentionPiece {
    int begin;
    int count;
    int padded;
    int first_kv;
    int n_kv;

    bool operator<(const AttentionPiece & o) const {
        return std::tie(begin, count, padded, first_kv, n_kv) <
               std::tie(o.begin, o.count, o.padded, o.first_kv, o.n_kv);
    }
};

struct AttentionOptions {
    bool flash_attn = true;
    bool bit_stable = true;
};

// The pieces of a pass that has `n_rows` rows: those of the batch, the last one repeated.
//
// ggml's CPU attention has three kernels, chosen by the number of query rows, which do not agree to the bit: one row
// at 512 cells and more (cells split among threads), tiles from 64 rows on, and row by row in between. With
// `bit_stable` the leading tiled rows always take the tiles and the others always go row by row, whatever else is in
// the pass; so a token's logits do not depend on its company. Requests whose cells lie apart are computed apart, where
// that is less work: a row costs time for every cell between, also for those that it does not see. On other devices
// (not bit_stable): one piece, or with exact rows (see Batch) one for each number of cells.
std::vector<AttentionPiece> attention_pieces(const Batch & batch, int n_rows, int n_cells,
                                             const AttentionOptions & options);

// That of the longest pass there can be.
std::vector<AttentionPiece> largest_pieces(int n_rows, int n_cells, const AttentionOptions & options);

}  // namespace trimode
