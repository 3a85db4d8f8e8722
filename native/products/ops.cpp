#include "products/ops.h"

#include <algorithm>
#include <atomic>

namespace trimode::products {

// One product of a graph. Its tiles are handed out in pieces, since cores differ in speed and in what else they run.
struct Op {
    explicit Op(const PackedWeight & w) : weight(w) {}

    const PackedWeight & weight;
    alignas(64) std::atomic<int64_t> next{0};  // the first tile that nobody has taken
    alignas(64) std::atomic<int> done{0};      // threads that found no more
};

namespace {

constexpr int64_t PIECES_PER_THREAD = 16;
constexpr int64_t FLOAT_TILES = 4;  // float kernels take so many at once

// Thread `ith` of `nth` quantizes its share of the blocks of all rows.
void quantize(ggml_tensor * dst, int ith, int nth, void *) {
    const ggml_tensor * x = dst->src[0];
    const int64_t n_blocks = x->ne[0] / BLOCK;
    const int64_t n_rows = x->ne[1];
    const int64_t total = n_blocks * n_rows;
    auto * records = static_cast<Record *>(dst->data);
    int64_t i = total * ith / nth;
    const int64_t end = total * (ith + 1) / nth;
    while (i < end) {
        const int64_t row = i / n_blocks;
        const int64_t block = i % n_blocks;
        const int64_t count = std::min(end - i, n_blocks - block);
        const int64_t first = row / PANEL * PANEL;  // of the row's panel
        const int64_t stride = std::min<int64_t>(n_rows - first, PANEL);
        const auto * values = reinterpret_cast<const float *>(static_cast<const char *>(x->data) + row * x->nb[1]);
        in_use()->quantize(values + block * BLOCK, count * BLOCK,
                           records + first * n_blocks + block * stride + (row - first), stride);
        i += count;
    }
}

int64_t piece_size(const PackedWeight & weight, int64_t n_rows, int nth) {
    const int64_t n_tiles = weight.n_tiles();
    int64_t piece = nth == 1 ? n_tiles : std::max<int64_t>(n_tiles / (nth * PIECES_PER_THREAD), 1);
    if (n_rows > PANEL) {
        piece = std::min(piece, weight.tiles_in_cache());
    }
    return takes_floats(weight.type()) ? GGML_PAD(piece, FLOAT_TILES) : piece;
}

void multiply_op(ggml_tensor * dst, int, int nth, void * user) {
    Op & op = *static_cast<Op *>(user);
    const ggml_tensor * x = dst->src[0];
    const int64_t n_rows = dst->ne[1];
    const Job job{op.weight.weight(),
                  x->data,
                  n_rows,
                  static_cast<int64_t>(x->nb[1] / sizeof(float)),
                  static_cast<float *>(dst->data),
                  static_cast<int64_t>(dst->nb[1] / sizeof(float))};
    Multiply * const kernel = op.weight.kernel(*in_use());
    const int64_t n_tiles = op.weight.n_tiles();
    const int64_t piece = piece_size(op.weight, n_rows, nth);
    for (;;) {
        const int64_t begin = op.next.fetch_add(piece, std::memory_order_relaxed);
        if (begin >= n_tiles) {
            break;
        }
        kernel(job, begin, std::min(begin + piece, n_tiles));
    }
    // The last one to leave makes the operation ready for the next pass: ggml's barrier lies between.
    if (op.done.fetch_add(1, std::memory_order_acq_rel) + 1 == nth) {
        op.next.store(0, std::memory_order_relaxed);
        op.done.store(0, std::memory_order_relaxed);
    }
}

}  // namespace

Ops::Ops() = default;
Ops::~Ops() = default;
Ops::Ops(Ops &&) noexcept = default;
Ops & Ops::operator=(Ops &&) noexcept = default;

ggml_tensor * Ops::quantized(ggml_context * context, ggml_tensor * x) {
    for (const auto & [input, made] : quantized_) {
        if (input == x) {
            return made;
        }
    }
    ggml_tensor * made = ggml_custom_4d(context, GGML_TYPE_I8, static_cast<int64_t>(activation_bytes(x->ne[0])),
                                        x->ne[1], 1, 1, &x, 1, quantize, GGML_N_TASKS_MAX, nullptr);
    quantized_.emplace_back(x, made);
    return made;
}

ggml_tensor * Ops::multiply(ggml_context * context, const PackedWeight & weight, ggml_tensor * x) {
    ops_.push_back(std::make_unique<Op>(weight));
    ggml_tensor * input = takes_floats(weight.type()) ? x : quantized(context, x);
    return ggml_custom_4d(context, GGML_TYPE_F32, weight.n_out(), x->ne[1], 1, 1, &input, 1, multiply_op,
                          GGML_N_TASKS_MAX, ops_.back().get());
}

}  // namespace trimode::products
