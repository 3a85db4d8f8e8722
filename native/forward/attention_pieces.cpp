#include "forward/attention_pieces.h"

#include <algorithm>

#include "ggml.h"

namespace trimode {

namespace {

constexpr int SPLIT_CELLS = 512;      // from here on ggml splits the cells of a single row among threads
constexpr int64_t PIECE_COST = 1024;  // of one operation more, in cells of a row

// Consecutive rows and the cells that they see.
struct Group {
    int begin, end;
    int lowest, highest;

    int count() const { return end - begin; }
    int first_kv() const { return lowest - lowest % CELL_BUCKET; }
    int n_kv(int n_cells) const {
        return std::min(static_cast<int>(GGML_PAD(highest + 1, CELL_BUCKET)), n_cells) - first_kv();
    }
};

// A sequence's cells rise up to those of its rows.
Group group_of(const Batch & batch, int i) {
    const Row & row = batch.rows()[i];
    const int first = row.sequence->size() > 0 ? row.sequence->cell(0) : row.cell;
    return {i, i + 1, std::min(first, row.cell), row.cell};
}

Group joined(const Group & a, const Group & b) {
    return {a.begin, b.end, std::min(a.lowest, b.lowest), std::max(a.highest, b.highest)};
}

// Rows [begin, end) as one group.
Group all_of(const Batch & batch, int begin, int end) {
    Group group = group_of(batch, begin);
    for (int i = begin + 1; i < end; ++i) {
        group = joined(group, group_of(batch, i));
    }
    return group;
}

class Cutter {
  public:
    Cutter(const Batch & batch, int n_cells, bool flash_attn)
        : batch_(batch), n_cells_(n_cells), flash_attn_(flash_attn) {}

    // The rows from `begin` on by sequence, neighbours together where that is less work.
    std::vector<Group> groups(int begin) const {
        std::vector<Group> result;
        for (int i = begin; i < batch_.size();) {
            int end = i + 1;
            while (end < batch_.size() && batch_.rows()[end].sequence == batch_.rows()[i].sequence) {
                ++end;
            }
            const Group next = all_of(batch_, i, end);
            if (!result.empty() && cost(joined(result.back(), next)) <= cost(result.back()) + cost(next) + PIECE_COST) {
                result.back() = joined(result.back(), next);
            } else {
                result.push_back(next);
            }
            i = end;
        }
        return result;
    }

    int padded(int count, int n_kv) const { return count == 1 && (!flash_attn_ || n_kv >= SPLIT_CELLS) ? 2 : count; }

    AttentionPiece piece(const Group & group, int begin, int count, int padded) const {
        return {begin, count, padded, group.first_kv(), group.n_kv(n_cells_)};
    }

  private:
    int64_t cost(const Group & group) const {
        const int n_kv = group.n_kv(n_cells_);
        return int64_t(padded(group.count(), n_kv)) * n_kv;
    }

    const Batch & batch_;
    int n_cells_;
    bool flash_attn_;
};

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

// The cells of a row, of which there are CELL_BUCKET times a whole number.
AttentionPiece exact_cells(const Batch & batch, const Row & row, int n_cells) {
    const int first =
        row.sequence->size() > 0 ? std::min(row.sequence->cell(0), row.cell) : row.cell / PAGE_CELLS * PAGE_CELLS;
    const int n_kv = static_cast<int>(GGML_PAD(last_cell(batch, row) + 1 - first, CELL_BUCKET));
    return {0, 0, 0, std::min(first, n_cells - n_kv), n_kv};
}

// Each with as many query rows as the pass has, so that a row's kernel does not depend on where a piece ends.
std::vector<AttentionPiece> exact_pieces(const Batch & batch, int n_rows, int n_cells) {
    std::vector<AttentionPiece> pieces;
    for (int i = 0; i < batch.size(); ++i) {
        AttentionPiece piece = exact_cells(batch, batch.rows()[i], n_cells);
        if (pieces.empty() || pieces.back().first_kv != piece.first_kv || pieces.back().n_kv != piece.n_kv) {
            piece.begin = i;
            piece.padded = n_rows;
            pieces.push_back(piece);
        }
        pieces.back().count = i + 1 - pieces.back().begin;
    }
    pieces.back().count = n_rows - pieces.back().begin;
    return pieces;
}

}  // namespace

std::vector<AttentionPiece> attention_pieces(const Batch & batch, int n_rows, int n_cells,
                                             const AttentionOptions & options) {
    const Cutter cutter(batch, n_cells, options.flash_attn);
    if (!options.bit_stable && batch.exact_rows() >= batch.size()) {
        return exact_pieces(batch, n_rows, n_cells);
    }
    if (!options.bit_stable) {
        return {cutter.piece(all_of(batch, 0, batch.size()), 0, n_rows, n_rows)};
    }
    std::vector<AttentionPiece> pieces;
    const auto & rows = batch.rows();
    const auto n_tiled =
        std::find_if(rows.begin(), rows.end(), [](const Row & row) { return !row.tiled; }) - rows.begin();
    // A repeated row writes the cell of the one it repeats: it needs the same kernel.
    const auto end_of = [&](int end) { return end == batch.size() ? n_rows : end; };
    if (n_tiled > 0) {
        const int count = end_of(static_cast<int>(n_tiled));
        pieces.push_back(cutter.piece(all_of(batch, 0, n_tiled), 0, count, std::max(count, TILE_ROWS)));
    }
    for (const Group & group : cutter.groups(static_cast<int>(n_tiled))) {
        const int end = end_of(group.end);
        for (int begin = group.begin; begin < end; begin += TILE_ROWS - 1) {
            const int count = std::min(end - begin, TILE_ROWS - 1);
            pieces.push_back(cutter.piece(group, begin, count, cutter.padded(count, group.n_kv(n_cells))));
        }
    }
    return pieces;
}

std::vector<AttentionPiece> largest_pieces(int n_rows, int n_cells, const AttentionOptions & options) {
    return {{0, n_rows, options.bit_stable ? std::max(n_rows, TILE_ROWS) : n_rows, 0, n_cells}};
}

}  // namespace trimode
