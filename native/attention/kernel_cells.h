// Cells of every type to F32, over the `Lanes` of an instruction set: a part of kernel_body.h, included as it is.

template <typename ToLanes>
inline void convert_floats(int width, float * to, ToLanes to_lanes) {
    for (int i = 0; i < width; i += LANES) {
        store(to + i, to_lanes(i));
    }
}

inline void convert_q8_0(const uint8_t * from, int width, float * to) {
    for (int i = 0; i < width; i += 32, from += 34, to += 32) {
        const Lanes scale = set(f16_value(from));
        store(to, mul(from_i8(reinterpret_cast<const int8_t *>(from + 2)), scale));
        store(to + LANES, mul(from_i8(reinterpret_cast<const int8_t *>(from + 2 + LANES)), scale));
    }
}

// The low nibbles are the first 16 values of a block, the high ones the others.
inline void convert_q4_0(const uint8_t * from, int width, float * to) {
    for (int i = 0; i < width; i += 32, from += 18, to += 32) {
        const Lanes scale = set(f16_value(from));
        store(to, mul(from_nibbles(from + 2, 0), scale));
        store(to + LANES, mul(from_nibbles(from + 2, 1), scale));
    }
}

// n cells of `width` values. Fetches what lies `ahead` of each.
template <typename Convert>
inline void convert_cells(const CellTensor & cells, const uint8_t * from, ptrdiff_t ahead, int n, int width, float * to,
                          Convert convert) {
    const ptrdiff_t bytes = cells.head_bytes;
    for (int c = 0; c < n; ++c, from += cells.cell_bytes, to += width) {
        for (ptrdiff_t line = 0; line < bytes; line += 64) {
            __builtin_prefetch(from + ahead + line);
        }
        convert(from, to);
    }
}

void convert_with_ggml(const CellTensor & cells, const uint8_t * from, int n, int head_dim, int width, float * to) {
    for (int c = 0; c < n; ++c, from += cells.cell_bytes, to += width) {
        cells.to_float(from, to, head_dim);
        for (int i = head_dim; i < width; ++i) {
            to[i] = 0.0f;
        }
    }
}

// n cells of one page, zeros behind up to `n_padded`. `ahead`: how far from each cell that lies which
// will be wanted a page later.
void convert_part(const AttentionTile & tile, const CellTensor & cells, const uint8_t * from, ptrdiff_t ahead, int n,
                  int n_padded, float * to) {
    const int width = tile.width;
    const auto convert = [&](auto one) { convert_cells(cells, from, ahead, n, width, to, one); };
    const auto convert_lanes = [&](auto lanes) {
        convert([&](const uint8_t * p, float * y) { convert_floats(width, y, [&](int i) { return lanes(p, i); }); });
    };
    if (tile.head_dim != width || cells.type == CellType::other) {
        convert_with_ggml(cells, from, n, tile.head_dim, width, to);
    } else if (cells.type == CellType::f16) {
        convert_lanes([](const uint8_t * p, int i) { return from_f16(p + 2 * i); });
    } else if (cells.type == CellType::bf16) {
        convert_lanes([](const uint8_t * p, int i) { return from_bf16(p + 2 * i); });
    } else if (cells.type == CellType::q8_0) {
        convert([&](const uint8_t * p, float * y) { convert_q8_0(p, width, y); });
    } else if (cells.type == CellType::q4_0) {
        convert([&](const uint8_t * p, float * y) { convert_q4_0(p, width, y); });
    } else {
        convert_lanes([](const uint8_t * p, int i) { return load(reinterpret_cast<const float *>(p) + i); });
    }
    for (size_t i = size_t(n) * width; i < size_t(n_padded) * width; i += LANES) {
        store(to + i, zero());
    }
}
