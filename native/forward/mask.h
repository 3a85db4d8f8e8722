// The mask of a device's attention: one operation over all rows of a pass and the cells between the lowest and the
// highest that any of them sees. On the CPU: attention/.
#pragma once

#include <vector>

#include "forward/batch.h"

namespace trimode {

constexpr int CELL_BUCKET = 256;  // a device's attention reads whole stretches of this many cells

// Cells [begin, begin + count).
struct CellRange {
    int begin;
    int count;
};

// Those that the rows of a batch see, in whole buckets; `n_cells`: that there are.
CellRange seen_cells(const Batch & batch, int n_cells);

// 0 where a cell is visible, -infinity elsewhere, [n_rows, cells.count]; the batch's last row is repeated.
// T is ggml_fp16_t or float.
template <typename T>
void fill_mask(const Batch & batch, int n_rows, CellRange cells, T visible, T hidden, T * line);

}  // namespace trimode
