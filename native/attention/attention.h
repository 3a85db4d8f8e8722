// The attention of a pass on the CPU, as one operation of the graph over (rows x heads) and cells.
//
// Instead of a mask it reads a table: of each row its sequence's pages and what it sees of them. So a request reads its
// own cells only. A row's bits depend on those cells alone: not on the rows beside it, on threads, on where the pages
// lie, or on the instruction set (kernel.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/kernel.h"
#include "ggml.h"

namespace trimode {

struct AttentionShape {
    int n_head, n_head_kv, head_dim, n_layer;
};

struct AttentionRow {
    const int32_t * pages;  // of its sequence; the same pointer: the same sequence
    RowView view;
};

class Attention {
  public:
    Attention(const AttentionShape & shape, int n_threads, const AttentionKernel & kernel = attention_kernel());

    // How many threads compute from the next prepare() on.
    void use_threads(int n_threads);

    // The rows of the pass that comes next, in the order of the queries; those of a sequence stand together. The pages
    // must stay until the pass is over. Returns how many cells will be read, in each layer.
    int64_t prepare(const std::vector<AttentionRow> & rows);

    // The operation of a layer: q F32 [head_dim, n_head, n_rows], k and v [n_head_kv * head_dim, n_cells] of any type
    // that can be converted to F32, results of the operations that wrote them: write before read is an edge of the
    // graph. Returns F32 [n_head * head_dim, n_rows].
    ggml_tensor * build(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, int layer);

    const AttentionKernel & kernel() const { return kernel_; }

  private:
    // Rows of one sequence whose queries share converted blocks.
    struct Tile {
        int first_row, n_rows, n_cells;
        const int32_t * pages;
        size_t sums = 0;   // where those of its stretches begin, if it is split
        int n_sums = 0;    // 0: not split
        int counters = 0;  // of its heads, if it is split
    };
    // What a thread takes: a tile's attention of one head of K and V, or one stretch of it.
    struct Unit {
        int tile, kv_head, stretch;
    };
    struct Layer {
        Attention * owner;
        std::atomic<int> next{0};                      // unit
        std::unique_ptr<std::atomic<int>[]> finished;  // stretches of each head of each split tile
    };
    // Aligned to 64 bytes.
    class Floats {
      public:
        void resize(size_t n);
        float * data() { return data_; }

      private:
        std::unique_ptr<float[]> memory_;
        float * data_ = nullptr;
        size_t size_ = 0;
    };

    static void compute(ggml_tensor * out, int thread, int n_threads, void * layer);
    void compute_units(ggml_tensor * out, Layer & layer, Floats & scratch);
    void compute_whole(const AttentionTile & tile, float * scratch);
    void compute_stretch(const AttentionTile & tile, const Tile & split, int stretch, Layer & layer, float * scratch);
    AttentionTile kernel_tile(const ggml_tensor * out, const Tile & tile, int kv_head) const;
    void cut_tiles(const std::vector<AttentionRow> & rows);
    int64_t make_units();
    int group() const { return shape_.n_head / shape_.n_head_kv; }

    AttentionShape shape_;
    int n_threads_ = 0;
    const AttentionKernel & kernel_;
    int width_, max_queries_;
    std::vector<RowView> views_;
    std::vector<Tile> tiles_;
    std::vector<Unit> units_;
    std::vector<std::unique_ptr<Layer>> layers_;
    int n_counters_ = 0, max_counters_ = 0;
    std::vector<Floats> scratch_;  // by thread
    Floats sums_;                  // of the split tiles' stretches
};

}  // namespace trimode
