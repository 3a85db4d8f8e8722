// The kernels of one instruction set. A source file defines `Lanes` (16 floats) and the tile sizes in an anonymous
// namespace, includes this file inside it, and is compiled with the flags of its set: nothing here may be visible to
// another file, nor be a template of the standard library, of which the linker would keep any one copy.
//
// The order of every sum is fixed by the lanes, not by the registers, so all sets give the same bits:
// - a score adds head_dim up in 16 lanes, each a chain of fma, and these in pairs at distances 8, 4, 2, 1;
// - a softmax sum likewise over the stretch's cells;
// - the weighted sum of V is a chain of fma over the cells.
// A cell that a row does not see adds +0 to it.

#include "attention/kernel_cells.h"

// ---- scores ----

// Of N queries and 16 cells, from K as it lies: [LANES][width].
template <int N>
inline void scores_by_cells(const float * q, const float * k, int width, float * scores) {
    Lanes quads[N][4];
    for (int g = 0; g < 4; ++g) {
        Lanes sum[4][N];
        for (int i = 0; i < 4; ++i) {
            for (int n = 0; n < N; ++n) {
                sum[i][n] = zero();
            }
        }
        for (int d = 0; d < width; d += LANES) {
            Lanes qd[N];
            for (int n = 0; n < N; ++n) {
                qd[n] = load(q + size_t(n) * width + d);
            }
            for (int i = 0; i < 4; ++i) {
                const Lanes kd = load(k + size_t(4 * i + g) * width + d);
                for (int n = 0; n < N; ++n) {
                    sum[i][n] = fma(qd[n], kd, sum[i][n]);
                }
            }
        }
        for (int n = 0; n < N; ++n) {
            quads[n][g] = quad_sums(sum[0][n], sum[1][n], sum[2][n], sum[3][n]);
        }
    }
    for (int n = 0; n < N; ++n) {
        store(scores + size_t(n) * SCORE_STRIDE, collect(quads[n][0], quads[n][1], quads[n][2], quads[n][3]));
    }
}

void all_scores_by_cells(const float * q, int n_queries, const float * k, int width, float * scores) {
    int n = 0;
    for (; n + CELL_QUERIES <= n_queries; n += CELL_QUERIES) {
        scores_by_cells<CELL_QUERIES>(q + size_t(n) * width, k, width, scores + size_t(n) * SCORE_STRIDE);
    }
    for (; n < n_queries; ++n) {
        scores_by_cells<1>(q + size_t(n) * width, k, width, scores + size_t(n) * SCORE_STRIDE);
    }
}

// The lanes of head_dim in an order that meets the pairs at distances 8, 4, 2, 1 one after the other.
constexpr int LANE_ORDER[LANES] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};

// Of N queries and M x 16 cells, from K transposed: [lane][width / LANES][BLOCK]. The same sums as above, so the same
// bits.
template <int N, int M>
inline void scores_by_lanes(const float * q, const float * k, int width, float * scores) {
    Lanes halves[5][N][M];
    for (int step = 0; step < LANES; ++step) {
        const int lane = LANE_ORDER[step];
        const float * line = k + size_t(lane) * (width / LANES) * BLOCK;
        Lanes sum[N][M];
        for (int m = 0; m < M; ++m) {
            const Lanes kd = load(line + LANES * m);
            for (int n = 0; n < N; ++n) {
                sum[n][m] = mul(set(q[size_t(n) * width + lane]), kd);
            }
        }
        for (int d = lane + LANES; d < width; d += LANES) {
            line += BLOCK;
            Lanes kd[M];
            for (int m = 0; m < M; ++m) {
                kd[m] = load(line + LANES * m);
            }
            for (int n = 0; n < N; ++n) {
                const Lanes qd = set(q[size_t(n) * width + d]);
                for (int m = 0; m < M; ++m) {
                    sum[n][m] = fma(qd, kd[m], sum[n][m]);
                }
            }
        }
        int level = 0;
        for (; (step >> level) & 1; ++level) {
            for (int n = 0; n < N; ++n) {
                for (int m = 0; m < M; ++m) {
                    sum[n][m] = add(halves[level][n][m], sum[n][m]);
                }
            }
        }
        for (int n = 0; n < N; ++n) {
            for (int m = 0; m < M; ++m) {
                halves[level][n][m] = sum[n][m];
            }
        }
    }
    for (int n = 0; n < N; ++n) {
        for (int m = 0; m < M; ++m) {
            store(scores + size_t(n) * SCORE_STRIDE + LANES * m, halves[4][n][m]);
        }
    }
}

// Of all queries and a block.
void all_scores_by_lanes(const float * q, int n_queries, const float * k, float * transposed, int width,
                         float * scores) {
    for (int c = 0; c < BLOCK; c += LANES) {
        for (int d = 0; d < width; d += LANES) {
            transpose(k + size_t(c) * width + d, width, transposed + d / LANES * BLOCK + c, width / LANES * BLOCK);
        }
    }
    for (int c = 0; c < BLOCK; c += SCORE_CELLS * LANES) {
        int n = 0;
        for (; n + SCORE_QUERIES <= n_queries; n += SCORE_QUERIES) {
            scores_by_lanes<SCORE_QUERIES, SCORE_CELLS>(q + size_t(n) * width, transposed + c, width,
                                                        scores + size_t(n) * SCORE_STRIDE + c);
        }
        for (; n < n_queries; ++n) {
            scores_by_lanes<1, SCORE_CELLS>(q + size_t(n) * width, transposed + c, width,
                                            scores + size_t(n) * SCORE_STRIDE + c);
        }
    }
}

// ---- softmax ----

// exp(x) for x <= 0: 2^n e^r with n = round(x / ln 2), e^r as its Taylor-like polynomial of degree 6 on |r| <= ln 2 / 2
// (coefficients of Cephes' expf). Below -86 it stays at exp(-86), a denormal's neighbour. NaN stays NaN.
inline Lanes exp_lanes(Lanes x) {
    constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: the sum's lowest bits are the integer
    x = max(set(-86.0f), x);
    const Lanes shifted = fma(x, set(1.44269504f), set(ROUND));
    const Lanes n = sub(shifted, set(ROUND));
    Lanes r = fma(n, set(-0.693359375f), x);
    r = fma(n, set(2.12194440e-4f), r);
    Lanes p = set(1.9875691500e-4f);
    p = fma(p, r, set(1.3981999507e-3f));
    p = fma(p, r, set(8.3334519073e-3f));
    p = fma(p, r, set(4.1665795894e-2f));
    p = fma(p, r, set(1.6666665459e-1f));
    p = fma(p, r, set(5.0000001201e-1f));
    p = add(fma(mul(r, r), p, r), set(1.0f));
    return mul(p, power_of_two(shifted));
}

inline float exp_one(float x) {
    alignas(64) float lanes[LANES];
    store(lanes, exp_lanes(set(x)));
    return lanes[0];
}

constexpr float HIDDEN = -__builtin_inff();

// Scores to exp(score - highest), 0 where hidden; n is a multiple of LANES.
inline void softmax(float * scores, int n, float * highest, float * sum) {
    Lanes top = set(HIDDEN);
    for (int c = 0; c < n; c += LANES) {
        top = max(top, load(scores + c));
    }
    *highest = highest_lane(top);
    Lanes total = zero();
    for (int c = 0; c < n; c += LANES) {
        const Lanes s = load(scores + c);
        const Lanes p = zero_where_hidden(exp_lanes(sub(s, set(*highest))), s);
        store(scores + c, p);
        total = add(total, p);
    }
    *sum = sum_lanes(total);
}

// Hides from each row what it does not see of the cells [first, first + BLOCK).
void hide(const AttentionTile & tile, int first, float * scores) {
    for (int r = 0; r < tile.n_rows; ++r) {
        const RowView & row = tile.rows[r];
        if (row.seen >= first + BLOCK) {
            continue;
        }
        for (int h = 0; h < tile.n_heads; ++h) {
            float * line = scores + size_t(r * tile.n_heads + h) * SCORE_STRIDE;
            for (int c = first; c < first + BLOCK; ++c) {
                const bool visible = c < row.seen || (c >= row.begin && c < row.end);
                line[c - first] = visible ? line[c - first] : HIDDEN;
            }
        }
    }
}

// Whether any row sees the cell.
bool is_seen(const AttentionTile & tile, int cell) {
    for (int r = tile.n_rows; r-- > 0;) {  // of a run the last one sees all of it
        const RowView & row = tile.rows[r];
        if (cell < row.seen || (cell >= row.begin && cell < row.end)) {
            return true;
        }
    }
    return false;
}

// ---- weighted sum of V ----

// sums += p x V over n cells of `v`, for N queries and M x 16 columns.
template <int N, int M>
inline void add_values(const float * p, const float * v, int width, int n, float * sums) {
    Lanes sum[N][M];
    for (int i = 0; i < N; ++i) {
        for (int m = 0; m < M; ++m) {
            sum[i][m] = load(sums + i * width + LANES * m);
        }
    }
    for (int c = 0; c < n; ++c) {
        Lanes vc[M];
        for (int m = 0; m < M; ++m) {
            vc[m] = load(v + size_t(c) * width + LANES * m);
        }
        for (int i = 0; i < N; ++i) {
            const Lanes pc = set(p[size_t(i) * SCORE_STRIDE + c]);
            for (int m = 0; m < M; ++m) {
                sum[i][m] = fma(pc, vc[m], sum[i][m]);
            }
        }
    }
    for (int i = 0; i < N; ++i) {
        for (int m = 0; m < M; ++m) {
            store(sums + i * width + LANES * m, sum[i][m]);
        }
    }
}

template <int N>
inline void add_all_values(const float * p, const float * v, int width, int n, float * sums) {
    int d = 0;
    for (; d + VALUE_COLUMNS * LANES <= width; d += VALUE_COLUMNS * LANES) {
        add_values<N, VALUE_COLUMNS>(p, v + d, width, n, sums + d);
    }
    for (; d < width; d += LANES) {
        add_values<N, 1>(p, v + d, width, n, sums + d);
    }
}

void all_values(const float * p, int n_queries, const float * v, int width, int n, float * sums) {
    int i = 0;
    for (; i + VALUE_QUERIES <= n_queries; i += VALUE_QUERIES) {
        add_all_values<VALUE_QUERIES>(p + size_t(i) * SCORE_STRIDE, v, width, n, sums + size_t(i) * width);
    }
    for (; i < n_queries; ++i) {
        add_all_values<1>(p + size_t(i) * SCORE_STRIDE, v, width, n, sums + size_t(i) * width);
    }
}

// ---- a tile ----

void pack_queries(const AttentionTile & tile, float * packed) {
    const Lanes scale = set(tile.scale);
    const int width = tile.width;
    for (int r = 0; r < tile.n_rows; ++r) {
        for (int h = 0; h < tile.n_heads; ++h, packed += width) {
            const float * q = tile.q + r * tile.q_row + h * tile.q_head;
            int d = 0;
            for (; d + LANES <= tile.head_dim; d += LANES) {
                store(packed + d, mul(load(q + d), scale));
            }
            for (; d < width; ++d) {
                packed[d] = d < tile.head_dim ? q[d] * tile.scale : 0.0f;
            }
        }
    }
}

const uint8_t * page_of(const AttentionTile & tile, const CellTensor & cells, int cell) {
    return cells.data + size_t(tile.pages[cell / BLOCK]) * BLOCK * cells.cell_bytes + tile.kv_head * cells.head_bytes;
}

// Converts the cells [first, end) of K or V part by part, and calls use(cell, n) for each part. Few queries take small
// parts, so that fetching the next page goes on beside what they compute. `after`: the page wanted behind the last.
template <typename Use>
inline void for_each_part(const AttentionTile & tile, const CellTensor & cells, int first, int end,
                          const uint8_t * after, float * part, Use use) {
    const int size = tile.n_queries <= QUERIES_BY_CELLS ? LANES : BLOCK;
    for (int block = first; block < end; block += BLOCK) {
        const uint8_t * page = page_of(tile, cells, block);
        const uint8_t * next = block + BLOCK < end ? page_of(tile, cells, block + BLOCK) : after;
        const ptrdiff_t ahead = ptrdiff_t(uintptr_t(next) - uintptr_t(page));
        const int n_block = end - block < BLOCK ? end - block : BLOCK;
        for (int c = 0; c < n_block; c += size) {
            const int n = n_block - c < size ? n_block - c : size;
            convert_part(tile, cells, page + c * cells.cell_bytes, ahead, n, size, part);
            use(block + c, n);
        }
    }
}

// p x V over the cells [c, c + n) that some row sees: what lies in others is not the tile's, and may be anything.
void all_values_seen(const AttentionTile & tile, int c, int n, const float * p, const float * v, float * sums) {
    if (c + n <= tile.rows[tile.n_rows - 1].seen) {
        all_values(p, tile.n_queries, v, tile.width, n, sums);
        return;
    }
    for (int begin = 0, end; begin < n; begin = end) {
        const bool seen = is_seen(tile, c + begin);
        end = begin + 1;
        while (end < n && is_seen(tile, c + end) == seen) {
            ++end;
        }
        if (seen) {
            all_values(p + begin, tile.n_queries, v + size_t(begin) * tile.width, tile.width, end - begin, sums);
        }
    }
}

void stretch(const AttentionTile & tile, int index, float * sums, float * scratch) {
    const int width = tile.width, n_queries = tile.n_queries;
    float * highest = sums + size_t(n_queries) * width;
    float * sum_of_exp = highest + n_queries;
    float * part = scratch;
    float * transposed = part + size_t(BLOCK) * width;
    float * q = transposed + size_t(BLOCK) * width;
    float * scores = q + size_t(n_queries) * width;
    const int first = index * STRETCH;
    const int end = tile.n_cells < first + STRETCH ? tile.n_cells : first + STRETCH;
    const int n_padded = (end - first + BLOCK - 1) / BLOCK * BLOCK;
    const uint8_t * v = page_of(tile, tile.v, first);
    const uint8_t * following = page_of(tile, tile.k, end < tile.n_cells ? end : first);

    pack_queries(tile, q);
    for_each_part(tile, tile.k, first, end, v, part, [&](int c, int) {
        if (n_queries <= QUERIES_BY_CELLS) {
            all_scores_by_cells(q, n_queries, part, width, scores + (c - first));
        } else {
            all_scores_by_lanes(q, n_queries, part, transposed, width, scores + (c - first));
        }
    });
    for (int c = first; c < first + n_padded; c += BLOCK) {
        hide(tile, c, scores + (c - first));
    }
    for (int i = 0; i < n_queries; ++i) {
        softmax(scores + size_t(i) * SCORE_STRIDE, n_padded, highest + i, sum_of_exp + i);
    }
    for (size_t i = 0; i < size_t(n_queries) * width; i += LANES) {
        store(sums + i, zero());
    }
    for_each_part(tile, tile.v, first, end, following, part,
                  [&](int c, int n) { all_values_seen(tile, c, n, scores + (c - first), part, sums); });
}

void fold(const AttentionTile & tile, const float * sums, float * total) {
    const int width = tile.width, n_queries = tile.n_queries;
    const float * highest = sums + size_t(n_queries) * width;
    const float * sum_of_exp = highest + n_queries;
    float * total_highest = total + size_t(n_queries) * width;
    float * total_sum = total_highest + n_queries;
    for (int i = 0; i < n_queries; ++i, sums += width, total += width) {
        if (highest[i] == HIDDEN) {
            continue;  // the row sees nothing there
        }
        const float top = highest[i] > total_highest[i] ? highest[i] : total_highest[i];
        const float keep = total_highest[i] == HIDDEN ? 0.0f : exp_one(total_highest[i] - top);
        const float take = exp_one(highest[i] - top);
        total_highest[i] = top;
        total_sum[i] = fma_one(total_sum[i], keep, sum_of_exp[i] * take);
        for (int d = 0; d < width; d += LANES) {
            store(total + d, fma(load(total + d), set(keep), mul(load(sums + d), set(take))));
        }
    }
}

void finish(const AttentionTile & tile, const float * total) {
    const float * sum_of_exp = total + size_t(tile.n_queries) * (tile.width + 1);
    for (int r = 0; r < tile.n_rows; ++r) {
        for (int h = 0; h < tile.n_heads; ++h, total += tile.width, ++sum_of_exp) {
            float * out = tile.out + r * tile.out_row + h * tile.out_head;
            const float inverse = 1.0f / *sum_of_exp;
            for (int d = 0; d < tile.head_dim; ++d) {
                out[d] = total[d] * inverse;
            }
        }
    }
}
