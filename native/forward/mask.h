// The mask of a device's attention: one operation over all rows of a pass and the cells between the lowest and the
// highest that any of them sees; with exact rows (see Batch) one for each number of cells. On the CPU: attention/.
#pragma once

#include <tuple>
#include <vector>

#include "forward/batch.h"

namespace trimode {

constexpr int CELL_BUCKET = 256;  // a device's attention reads whole stretches of this many cells
// Of so many more each time. Another number of cells is another graph, which a device takes some passes' time to
// record; hidden cells cost it little.
constexpr int CELL_STEP = 1024;

// Cells [begin, begin + count).
struct CellRange {
    int begin;
    int count;
};

// Rows of a pass whose attention is one operation, and the cells that it reads. It has all rows of the pass, so that
// its kernel does not depend on where a piece ends; the results of the others are not used.
struct AttentionPiece {
    RowRange rows;
    CellRange cells;

    bool operator<(const AttentionPiece & o) const {
        return std::tie(rows.begin, rows.end, cells.begin, cells.count) <
               std::tie(o.rows.begin, o.rows.end, o.cells.begin, o.cells.count);
    }
};

// The pieces of a pass that has `n_rows` rows: those of the batch, the last one repeated. `n_cells`: that there are.
std::vector<AttentionPiece> attention_pieces(const Batch & batch, int n_rows, int n_cells);

// 0 where a cell is visible, -infinity elsewhere, [n_rows, piece.cells.count]; rows of other pieces have the mask of
// the nearest one of this. T is ggml_fp16_t or float.
template <typename T>
void fill_mask(const Batch & batch, int n_rows, const AttentionPiece & piece, T visible, T hidden, T * line);

}  // namespace trimode
