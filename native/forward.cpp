#include "forward.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <set>
#include <stdexcept>
#include <thread>

#include "ggml-cpu.h"
#include "kv_cache.h"
#include "lora.h"
#include "model.h"
#include "placement.h"
#include "reduce.h"

namespace trimode {

namespace {

constexpr size_t MAX_GRAPHS = 64;  // ready graphs kept

std::vector<ggml_backend_t> init_backends(const Model & model) {
    std::set<ggml_backend_dev_t> devices;
    for (const Layer & layer : model.layers()) {
        devices.insert(device_of(layer.wk));
    }
    devices.insert(device_of(model.output()));
    devices.erase(nullptr);
    std::vector<ggml_backend_t> backends;
    for (ggml_backend_dev_t device : devices) {
        backends.push_back(ggml_backend_dev_init(device, nullptr));
    }
    backends.push_back(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    for (ggml_backend_t backend : backends) {
        if (!backend) {
            throw std::runtime_error("a compute device could not be initialized");
        }
    }
    return backends;
}

void set_threads(ggml_backend_t cpu, int n_threads) {
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu));
    auto * set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads"));
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    set(cpu, n_threads > 0 ? n_threads : std::max(cores, 1));
}

int highest_cell(const Batch & batch) {
    int highest = 0;
    for (const Row & row : batch.rows()) {  // its sequence's cells rise up to it
        highest = std::max(highest, row.cell);
    }
    return highest;
}

// The mask of a sequence's committed cells.
template <typename T>
void mark_committed(const Sequence & sequence, T visible, T * line) {
    for (int begin = 0; begin < sequence.size(); begin += PAGE_CELLS) {
        std::fill_n(line + sequence.cell(begin), std::min(PAGE_CELLS, sequence.size() - begin), visible);
    }
}

// 0 where a cell is visible, -inf elsewhere, in the mask's own type. Padding repeats the last row of its piece.
template <typename T>
void fill_mask(const Batch & batch, const std::vector<AttentionPiece> & pieces, int n_kv, T visible, T hidden,
               std::vector<char> & committed, T * line) {
    const std::vector<Row> & rows = batch.rows();
    committed.resize(n_kv * sizeof(T));
    T * shared = reinterpret_cast<T *>(committed.data());  // by consecutive rows of one sequence
    const Sequence * of = nullptr;
    for (const AttentionPiece & piece : pieces) {
        for (int i = 0; i < piece.padded; ++i, line += n_kv) {
            const Row & row = rows[std::min({piece.begin + i, piece.begin + piece.count - 1, batch.size() - 1})];
            if (row.sequence != of) {
                of = row.sequence;
                std::fill_n(shared, n_kv, hidden);
                mark_committed(*of, visible, shared);
            }
            std::memcpy(line, shared, n_kv * sizeof(T));
            for (const RowRange & range : {row.sees, row.group}) {
                for (int j = range.begin; j < range.end; ++j) {
                    line[rows[j].cell] = visible;
                }
            }
        }
    }
}

// Adds the time until it goes to `total`.
class Stopwatch {
  public:
    explicit Stopwatch(double & total) : total_(total), start_(std::chrono::steady_clock::now()) {}
    ~Stopwatch() { total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  private:
    double & total_;
    std::chrono::steady_clock::time_point start_;
};

void set_tensor(ggml_tensor * t, const void * data) {
    if (t && t->buffer) {  // a tensor that no node reads has no memory
        ggml_backend_tensor_set(t, data, 0, ggml_nbytes(t));
    }
}

}  // namespace

struct Forward::Ready {
    Graph graph;
    std::list<GraphKey>::iterator recent;
    ggml_backend_sched_t scheduler = nullptr;
    ~Ready() {
        if (scheduler) {
            ggml_backend_sched_free(scheduler);
        }
    }
};

Forward::Forward(const Model & model, KvCache & cache, const ForwardOptions & options)
    : model_(model), cache_(cache), options_(options), backends_(init_backends(model)) {
    const bool cpu_only = backends_.size() == 1;
    direct_ = cpu_only && !options.use_scheduler;
    graph_options_ = {options.flash_attn, /*bit_stable=*/cpu_only};
    set_threads(backends_.back(), options.n_threads);
    if (direct_) {
        allocator_ = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backends_.back()));
        GraphKey largest{};
        largest.n_rows = largest.n_tiled = options.n_batch;
        largest.n_out = std::min(options.n_batch, RESERVED_OUTPUTS);
        largest.n_kv = cache.n_cells();
        largest.lora = model.lora() != nullptr;
        largest.select = true;
        const Graph graph = build_graph(model, cache, graph_options_, largest);
        if (!ggml_gallocr_reserve(allocator_, graph.graph)) {
            throw std::runtime_error("out of memory: no room for the compute buffer; use a smaller batch or context");
        }
    }
}

Forward::~Forward() {
    graphs_.clear();
    if (allocator_) {
        ggml_gallocr_free(allocator_);
    }
    for (ggml_backend_t backend : backends_) {
        ggml_backend_free(backend);
    }
}

size_t Forward::compute_bytes() const {
    if (direct_) {
        return ggml_gallocr_get_buffer_size(allocator_, 0);
    }
    size_t total = 0;
    for (const auto & [key, ready] : graphs_) {
        for (ggml_backend_t backend : backends_) {
            total += ggml_backend_sched_get_buffer_size(ready->scheduler, backend);
        }
    }
    return total;
}

void Forward::allocate(Ready & ready) {
    if (!direct_) {
        ready.scheduler = ggml_backend_sched_new(backends_.data(), nullptr, static_cast<int>(backends_.size()),
                                                 SCHEDULER_NODES, /*parallel=*/false, /*op_offload=*/true);
        if (!ggml_backend_sched_alloc_graph(ready.scheduler, ready.graph.graph)) {
            throw std::runtime_error("out of memory: no room for the compute buffers; use a smaller batch or context");
        }
        return;
    }
    const size_t before = ggml_gallocr_get_buffer_size(allocator_, 0);
    if (!ggml_gallocr_alloc_graph(allocator_, ready.graph.graph)) {
        throw std::runtime_error("out of memory: no room for the compute buffer; use a smaller batch or context");
    }
    if (ggml_gallocr_get_buffer_size(allocator_, 0) != before) {
        graphs_.clear();  // the buffer moved: the addresses in the other ready graphs are void
        recent_.clear();
    }
}

Forward::Ready & Forward::ready(const GraphKey & key) {
    const auto found = graphs_.find(key);
    if (found != graphs_.end()) {
        recent_.splice(recent_.begin(), recent_, found->second->recent);
        return *found->second;
    }
    const Stopwatch watch(times_.build);
    ++times_.graphs;
    auto made = std::make_unique<Ready>();
    made->graph = build_graph(model_, cache_, graph_options_, key);
    allocate(*made);
    if (graphs_.size() >= MAX_GRAPHS) {
        graphs_.erase(recent_.back());
        recent_.pop_back();
    }
    recent_.push_front(key);
    made->recent = recent_.begin();
    return *(graphs_[key] = std::move(made));
}

// Float weights on the CPU: two rows at least, in every product, so that a row's bits do not depend on its company.
// The last row is repeated; the same values go to the same cell.
int Forward::min_rows() const { return graph_options_.bit_stable && model_.has_float_weights() ? 2 : 1; }

void Forward::run(const Batch & batch) {
    if (batch.size() == 0) {
        return;
    }
    out_rows_.clear();
    out_index_.assign(batch.size(), -1);
    GraphKey key{};
    for (int i = 0; i < batch.size(); ++i) {
        const Row & row = batch.rows()[i];
        key.lora |= row.lora && model_.lora();
        key.n_tiled += row.tiled;
        if (row.want != Want::nothing) {
            out_index_[i] = static_cast<int>(out_rows_.size());
            out_rows_.push_back(i);
        }
    }
    key.n_rows = std::max(batch.size(), min_rows());
    if (key.n_tiled == batch.size()) {
        key.n_tiled = key.n_rows;  // a repeated row writes the cell of the one it repeats: it needs the same kernel
    }
    key.n_tiled = graph_options_.bit_stable ? key.n_tiled : 0;
    key.select = static_cast<int>(out_rows_.size()) < batch.size();
    key.n_out = out_rows_.empty() ? 0 : std::max(static_cast<int>(out_rows_.size()), min_rows());
    key.n_kv = std::min(static_cast<int>(GGML_PAD(highest_cell(batch) + 1, CELL_BUCKET)), cache_.n_cells());

    Ready & ready = this->ready(key);
    set_inputs(ready.graph, batch, key);
    compute(ready);
    read_outputs(ready.graph, batch);
    ++times_.passes;
    times_.rows += batch.size();
}

void Forward::compute(Ready & ready) {
    const Stopwatch watch(times_.compute);
    const ggml_status status = direct_ ? ggml_backend_graph_compute(backends_.back(), ready.graph.graph)
                                       : ggml_backend_sched_graph_compute(ready.scheduler, ready.graph.graph);
    if (status != GGML_STATUS_SUCCESS) {
        throw std::runtime_error(std::string("forward pass failed: ") + ggml_status_to_string(status));
    }
}

void Forward::set_inputs(const Graph & graph, const Batch & batch, const GraphKey & key) {
    const Stopwatch watch(times_.inputs);
    tokens_.clear();
    positions_.clear();
    cells_.clear();
    query_scale_.clear();
    lora_scale_.clear();
    selected_.clear();
    for (int i = 0; i < key.n_rows; ++i) {
        const Row & row = batch.rows()[std::min(i, batch.size() - 1)];
        tokens_.push_back(row.token);
        positions_.push_back(row.pos);
        cells_.push_back(row.cell);
        query_scale_.push_back(model_.hparams().query_scale(row.pos));
        lora_scale_.push_back(row.lora && key.lora ? model_.lora()->scale() : 0.0f);
    }
    for (int i = 0; i < key.n_out; ++i) {
        selected_.push_back(out_rows_[std::min<size_t>(i, out_rows_.size() - 1)]);
    }
    set_tensor(graph.tokens, tokens_.data());
    set_tensor(graph.positions, positions_.data());
    set_tensor(graph.cells, cells_.data());
    set_tensor(graph.query_scale, query_scale_.data());
    set_tensor(graph.lora_scale, lora_scale_.data());
    set_tensor(graph.out_rows, selected_.data());
    set_mask(graph, batch, key);
}

void Forward::set_mask(const Graph & graph, const Batch & batch, const GraphKey & key) {
    if (!graph.mask->buffer) {
        return;
    }
    const auto pieces = attention_pieces(key.n_rows, key.n_tiled, graph_options_.bit_stable);
    mask_buffer_.resize(ggml_nbytes(graph.mask));
    if (graph.mask->type == GGML_TYPE_F16) {
        fill_mask<ggml_fp16_t>(batch, pieces, key.n_kv, ggml_fp32_to_fp16(0.0f), ggml_fp32_to_fp16(-INFINITY),
                               committed_, reinterpret_cast<ggml_fp16_t *>(mask_buffer_.data()));
    } else {
        fill_mask<float>(batch, pieces, key.n_kv, 0.0f, -INFINITY, committed_,
                         reinterpret_cast<float *>(mask_buffer_.data()));
    }
    ggml_backend_tensor_set(graph.mask, mask_buffer_.data(), 0, mask_buffer_.size());
}

void Forward::read_outputs(const Graph & graph, const Batch & batch) {
    const Stopwatch watch(times_.outputs);
    outputs_.assign(batch.size(), Output{});
    if (!graph.logits) {
        return;
    }
    if (ggml_backend_buffer_is_host(graph.logits->buffer)) {
        logits_ = static_cast<const float *>(graph.logits->data);
    } else {
        staging_.resize(ggml_nelements(graph.logits));
        ggml_backend_tensor_get(graph.logits, staging_.data(), 0, ggml_nbytes(graph.logits));
        logits_ = staging_.data();
    }
    const int n_vocab = model_.n_vocab();
    const llama_token mask = model_.mask_token();
    for (size_t i = 0; i < out_rows_.size(); ++i) {
        const float * logits = logits_ + i * n_vocab;
        const Top top = argmax(logits, n_vocab, mask);
        Output & output = outputs_[out_rows_[i]];
        output = {top.token, top.logit, 0.0f};
        if (batch.rows()[out_rows_[i]].want == Want::confidence) {
            output.probability = probability(logits, n_vocab, mask, top);
        }
    }
}

}  // namespace trimode
