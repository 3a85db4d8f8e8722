#include "forward/mask.h"

#include <algorithm>

#include "ggml.h"

namespace trimode {

namespace {

// Those that the rows of a batch see, from a bucket on.
CellRange seen_cells(const Batch & batch, int n_cells) {
    int lowest = n_cells, highest = 0;
    for (const Row & row : batch.rows()) {  // a sequence's cells rise up to those of its rows
        const int first = row.sequence->size() > 0 ? row.sequence->cell(0) : row.cell;
        lowest = std::min({lowest, first, row.cell});
        highest = std::max(highest, row.cell);
    }
    const int begin = lowest - lowest % CELL_BUCKET;
    return {begin, std::min(static_cast<int>(GGML_PAD(highest + 1 - begin, CELL_STEP)), n_cells - begin)};
}

// Where the last cell that a row sees lies; a causal row sees none behind its own.
int last_cell(const Batch & batch, const Row & row) {
    int last = row.cell;
    for (const RowRange & range : {row.sees, row.group}) {
        for (int i = range.begin; i < range.end; ++i) {
            last = std::max(last, batch.rows()[i].cell);
        }
    }
    return last;
}

// The cells of a row alone, from the first of its sequence on: a whole number of steps, or all.
CellRange exact_cells(const Batch & batch, const Row & row, int n_cells) {
    const int first = row.sequence->cell(0);
    const int count = std::min(static_cast<int>(GGML_PAD(last_cell(batch, row) + 1 - first, CELL_STEP)), n_cells);
    return {std::min(first, n_cells - count), count};
}

std::vector<AttentionPiece> exact_pieces(const Batch & batch, int n_rows, int n_cells) {
    std::vector<AttentionPiece> pieces;
    for (int i = 0; i < batch.size(); ++i) {
        const CellRange cells = exact_cells(batch, batch.rows()[i], n_cells);
        if (pieces.empty() || pieces.back().cells.begin != cells.begin || pieces.back().cells.count != cells.count) {
            pieces.push_back({{i, i}, cells});
        }
        pieces.back().rows.end = i + 1;
    }
    pieces.back().rows.end = n_rows;
    return pieces;
}

// The mask of a sequence's committed cells; `line` begins with cell `first`.
template <typename T>
void mark_committed(const Sequence & sequence, int first, T visible, T * line) {
    for (int begin = 0; begin < sequence.size(); begin += PAGE_CELLS) {
        std::fill_n(line + (sequence.cell(begin) - first), std::min(PAGE_CELLS, sequence.size() - begin), visible);
    }
}

}  // namespace

std::vector<AttentionPiece> attention_pieces(const Batch & batch, int n_rows, int n_cells) {
    if (batch.exact_rows() >= batch.size()) {
        return exact_pieces(batch, n_rows, n_cells);
    }
    return {{{0, n_rows}, seen_cells(batch, n_cells)}};
}

template <typename T>
void fill_mask(const Batch & batch, int n_rows, const AttentionPiece & piece, T visible, T hidden, T * line) {
    const CellRange & cells = piece.cells;
    const int last = std::min(piece.rows.end, batch.size()) - 1;
    const std::vector<Row> & rows = batch.rows();
    std::vector<T> committed(cells.count);  // of consecutive rows of one sequence
    const Sequence * of = nullptr;
    for (int i = 0; i < n_rows; ++i, line += cells.count) {
        const Row & row = rows[std::clamp(i, piece.rows.begin, last)];
        if (row.sequence != of) {
            of = row.sequence;
            std::fill(committed.begin(), committed.end(), hidden);
            mark_committed(*of, cells.begin, visible, committed.data());
        }
        std::copy(committed.begin(), committed.end(), line);
        for (const RowRange & range : {row.sees, row.group}) {
            for (int j = range.begin; j < range.end; ++j) {
                line[rows[j].cell - cells.begin] = visible;
            }
        }
    }
}

template void fill_mask(const Batch &, int, const AttentionPiece &, ggml_fp16_t, ggml_fp16_t, ggml_fp16_t *);
template void fill_mask(const Batch &, int, const AttentionPiece &, float, float, float *);

}  // namespace trimode
