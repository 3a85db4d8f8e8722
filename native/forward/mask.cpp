#include "forward/mask.h"

#include <algorithm>

#include "ggml.h"

namespace trimode {

CellRange seen_cells(const Batch & batch, int n_cells) {
    int lowest = n_cells, highest = 0;
    for (const Row & row : batch.rows()) {  // a sequence's cells rise up to those of its rows
        const int first = row.sequence->size() > 0 ? row.sequence->cell(0) : row.cell;
        lowest = std::min({lowest, first, row.cell});
        highest = std::max(highest, row.cell);
    }
    const int begin = lowest - lowest % CELL_BUCKET;
    return {begin, std::min(static_cast<int>(GGML_PAD(highest + 1, CELL_BUCKET)), n_cells) - begin};
}

namespace {

// The mask of a sequence's committed cells; `line` begins with cell `first`.
template <typename T>
void mark_committed(const Sequence & sequence, int first, T visible, T * line) {
    for (int begin = 0; begin < sequence.size(); begin += PAGE_CELLS) {
        std::fill_n(line + (sequence.cell(begin) - first), std::min(PAGE_CELLS, sequence.size() - begin), visible);
    }
}

}  // namespace

template <typename T>
void fill_mask(const Batch & batch, int n_rows, CellRange cells, T visible, T hidden, T * line) {
    const std::vector<Row> & rows = batch.rows();
    std::vector<T> committed(cells.count);  // of consecutive rows of one sequence
    const Sequence * of = nullptr;
    for (int i = 0; i < n_rows; ++i, line += cells.count) {
        const Row & row = rows[std::min(i, batch.size() - 1)];
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

template void fill_mask(const Batch &, int, CellRange, ggml_fp16_t, ggml_fp16_t, ggml_fp16_t *);
template void fill_mask(const Batch &, int, CellRange, float, float, float *);

}  // namespace trimode
