#include "forward/forward.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <thread>

#include "cache/kv_cache.h"
#include "forward/embedding.h"
#include "ggml-cpu.h"
#include "model/lora.h"
#include "model/model.h"
#include "model/placement.h"
#include "util/out_of_memory.h"
#include "util/stopwatch.h"

namespace trimode {

namespace {

constexpr size_t MAX_GRAPHS = 64;             // ready graphs kept, all in one buffer
constexpr size_t MAX_SCHEDULED_GRAPHS = 4;    // with a scheduler each has buffers of its own; of these one at most ...
constexpr int SMALL_ROWS = RESERVED_OUTPUTS;  // ... has more rows than so many
// Passes of a graph before it is settled: ggml-cuda launches it kernel by kernel, then records it.
constexpr int WARM_UP = 2;

std::vector<ggml_backend_ptr> init_backends(const Model & model) {
    std::set<ggml_backend_dev_t> devices;
    for (const Layer & layer : model.layers()) {
        devices.insert(device_of(layer.wk));
    }
    devices.insert(device_of(model.output()));
    devices.erase(nullptr);
    std::vector<ggml_backend_ptr> backends;
    for (ggml_backend_dev_t device : devices) {
        backends.emplace_back(ggml_backend_dev_init(device, nullptr));
    }
    backends.emplace_back(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    if (std::any_of(backends.begin(), backends.end(), [](const ggml_backend_ptr & backend) { return !backend; })) {
        throw std::runtime_error("a compute device could not be initialized");
    }
    return backends;
}

// As ggml's functions take them.
std::vector<ggml_backend_t> raw(const std::vector<ggml_backend_ptr> & backends) {
    std::vector<ggml_backend_t> pointers;
    for (const ggml_backend_ptr & backend : backends) {
        pointers.push_back(backend.get());
    }
    return pointers;
}

int number_of_threads(int wanted) {
    return wanted > 0 ? wanted : std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

void set_threads(ggml_backend_t cpu, int n_threads) {
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu));
    auto * set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads"));
    set(cpu, n_threads);
}

// The device that holds all layers and the head, null where there are several or it is the CPU.
ggml_backend_dev_t only_device(const Model & model) {
    ggml_backend_dev_t device = device_of(model.output());
    for (const Layer & layer : model.layers()) {
        if (device_of(layer.wk) != device || device_of(layer.attn_norm) != device) {
            return nullptr;
        }
    }
    return device_of(model.output_norm()) == device ? device : nullptr;
}

}  // namespace

struct Forward::Ready {
    Graph graph;
    std::list<GraphKey>::iterator recent;
    int64_t n_passes = 0;
    ggml_backend_sched_ptr scheduler;  // null: direct
};

Forward::Forward(const Model & model, KvCache & cache, const ForwardOptions & options)
    : model_(model), cache_(cache), options_(options), backends_(init_backends(model)) {
    const bool cpu_only = backends_.size() == 1;
    const bool as_device = !cpu_only || options.device_graphs;
    if (!as_device) {
        const Hparams & h = model.hparams();
        attention_ = std::make_unique<Attention>(AttentionShape{h.n_head, h.n_head_kv, h.head_dim, h.n_layer}, 1);
        graph_options_.attention = attention_.get();
    } else {
        graph_options_.flash_attn = options.flash_attn;
        graph_options_.host_embedding = can_embed(model.token_embd());
        graph_options_.reduce = true;
        graph_options_.fused_stores = options.fused_stores;
        make_token_bias(device_of(model.output()));
    }
    use_threads(number_of_threads(options.n_threads));
    GraphKey largest = largest_key(options.n_batch);
    candidates_on_device_ = as_device && knows_candidates(largest);
    largest.candidates = candidates_on_device_;
    direct_ = !options.use_scheduler && (cpu_only || device_can_run_alone(largest));
    if (!direct_) {
        check_usable(build_graph(model, cache, graph_options_, largest).graph, raw(backends_));
        return;
    }
    allocator_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backends_.front().get())));
    const Graph graph = build_graph(model, cache, graph_options_, largest);
    ggml_gallocr_reserve_n_size(allocator_.get(), graph.graph, nullptr, nullptr, &planned_);
    if (!model.no_alloc() && !ggml_gallocr_reserve(allocator_.get(), graph.graph)) {
        throw OutOfMemory("no room for the compute buffer of " + mebibytes(planned_), USE_LESS);
    }
}

GraphKey Forward::largest_key(int n_rows) const {
    GraphKey key{};
    key.n_rows = n_rows;
    key.n_out = std::min(n_rows, RESERVED_OUTPUTS);
    if (!attention_) {
        key.pieces = {{{0, n_rows}, {0, cache_.n_cells()}}};
    }
    key.lora = model_.lora() != nullptr;
    key.adapters = static_cast<uint32_t>((uint64_t(1) << model_.adapters().size()) - 1);
    key.select = true;
    key.confidence = true;
    key.embedded = options_.images != nullptr;
    return key;
}

// Whether one device has all weights and knows all operations.
bool Forward::device_can_run_alone(const GraphKey & largest) const {
    if (!only_device(model_) || !graph_options_.host_embedding) {
        return false;
    }
    const Graph graph = build_graph(model_, cache_, graph_options_, largest);
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph); ++i) {
        if (!ggml_backend_supports_op(backends_.front().get(), ggml_graph_node(graph.graph, i))) {
            return false;
        }
    }
    return true;
}

// Whether the backend of the head finds the highest logits; else rows that want candidates are fetched whole.
bool Forward::knows_candidates(const GraphKey & largest) const {
    GraphKey key = largest;
    key.candidates = true;
    const Graph graph = build_graph(model_, cache_, graph_options_, key);
    for (const ggml_backend_ptr & backend : backends_) {
        if (ggml_backend_get_device(backend.get()) == device_of(model_.output())) {
            return ggml_backend_supports_op(backend.get(), graph.candidates);
        }
    }
    return ggml_backend_supports_op(backends_.back().get(), graph.candidates);
}

// -inf for the mask id, 0 for all others, beside the head.
void Forward::make_token_bias(ggml_backend_dev_t device) {
    if (model_.mask_token() < 0) {
        return;
    }
    bias_context_.reset(ggml_init({ggml_tensor_overhead(), nullptr, /*no_alloc=*/true}));
    ggml_tensor * bias = ggml_new_tensor_1d(bias_context_.get(), GGML_TYPE_F32, model_.n_vocab());
    bias_buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(
        bias_context_.get(), device ? ggml_backend_dev_buffer_type(device) : ggml_backend_cpu_buffer_type()));
    if (!bias_buffer_) {
        throw OutOfMemory("no room for the compute buffer", USE_LESS);
    }
    std::vector<float> values(model_.n_vocab(), 0.0f);
    values[model_.mask_token()] = -INFINITY;
    ggml_backend_tensor_set(bias, values.data(), 0, ggml_nbytes(bias));
    graph_options_.token_bias = bias;
}

Forward::~Forward() = default;

void Forward::use_threads(int n_threads) {
    if (n_threads != n_threads_) {
        set_threads(backends_.back().get(), n_threads);
        n_threads_ = n_threads;
        if (attention_) {
            attention_->use_threads(n_threads);
        }
    }
}

size_t Forward::compute_bytes() const {
    if (direct_) {
        return model_.no_alloc() ? planned_ : ggml_gallocr_get_buffer_size(allocator_.get(), 0);
    }
    size_t total = 0;
    for (const auto & [key, ready] : graphs_) {
        for (const ggml_backend_ptr & backend : backends_) {
            total += ggml_backend_sched_get_buffer_size(ready->scheduler.get(), backend.get());
        }
    }
    return total;
}

std::vector<std::pair<ggml_backend_dev_t, size_t>> Forward::planned_bytes() const {
    const auto device = [&](size_t i) {
        return i + 1 < backends_.size() ? ggml_backend_get_device(backends_[i].get()) : nullptr;
    };
    if (direct_) {
        return {{device(0), planned_}};
    }
    std::vector<size_t> total(backends_.size(), 0);
    for (const auto & [n_rows, times] : {std::pair<int, size_t>{options_.n_batch, 1},
                                         {std::min(SMALL_ROWS, options_.n_batch), MAX_SCHEDULED_GRAPHS - 1}}) {
        const Graph graph = build_graph(model_, cache_, graph_options_, largest_key(n_rows));
        const ggml_backend_sched_ptr scheduler = new_scheduler(graph.graph);
        keep_products(scheduler.get(), graph.graph);
        std::vector<size_t> sizes(backends_.size());
        ggml_backend_sched_reserve_size(scheduler.get(), graph.graph, sizes.data());
        for (size_t i = 0; i < sizes.size(); ++i) {
            total[i] += sizes[i] * times;
        }
    }
    std::vector<std::pair<ggml_backend_dev_t, size_t>> planned;
    for (size_t i = 0; i < total.size(); ++i) {
        planned.emplace_back(device(i), total[i]);
    }
    return planned;
}

ggml_backend_sched_ptr Forward::new_scheduler(ggml_cgraph * graph) const {
    std::vector<ggml_backend_t> backends = raw(backends_);
    return ggml_backend_sched_ptr(ggml_backend_sched_new(backends.data(), nullptr, static_cast<int>(backends.size()),
                                                         std::max(SCHEDULER_NODES, ggml_graph_size(graph)),
                                                         /*parallel=*/false, /*op_offload=*/true));
}

// Our own products are functions of this process: devices that say they know any operation must not get them.
void Forward::keep_products(ggml_backend_sched_t scheduler, ggml_cgraph * graph) const {
    for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
        ggml_tensor * node = ggml_graph_node(graph, i);
        if (node->op == GGML_OP_CUSTOM) {
            ggml_backend_sched_set_tensor_backend(scheduler, node, backends_.back().get());
        }
    }
}

void Forward::allocate(Ready & ready) {
    if (!direct_) {
        ready.scheduler = new_scheduler(ready.graph.graph);
        keep_products(ready.scheduler.get(), ready.graph.graph);
        if (!ggml_backend_sched_alloc_graph(ready.scheduler.get(), ready.graph.graph)) {
            throw OutOfMemory("no room for the compute buffers", USE_LESS);
        }
        return;
    }
    const size_t before = ggml_gallocr_get_buffer_size(allocator_.get(), 0);
    if (!ggml_gallocr_alloc_graph(allocator_.get(), ready.graph.graph)) {
        throw OutOfMemory("no room for the compute buffer", USE_LESS);
    }
    if (ggml_gallocr_get_buffer_size(allocator_.get(), 0) != before) {
        graphs_.clear();  // the buffer moved: the addresses in the other ready graphs are void
        recent_.clear();
    }
}

void Forward::drop(std::list<GraphKey>::iterator at) {
    graphs_.erase(*at);
    recent_.erase(at);
}

// For one more ready graph.
void Forward::make_room(const GraphKey & key) {
    if (graphs_.size() >= (direct_ ? MAX_GRAPHS : MAX_SCHEDULED_GRAPHS)) {
        drop(std::prev(recent_.end()));
    }
    for (auto at = recent_.begin(); !direct_ && key.n_rows > SMALL_ROWS && at != recent_.end();) {
        const auto here = at++;
        if (here->n_rows > SMALL_ROWS) {
            drop(here);
        }
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
    make_room(key);
    auto made = std::make_unique<Ready>();
    made->graph = build_graph(model_, cache_, graph_options_, key);
    allocate(*made);
    recent_.push_front(key);
    made->recent = recent_.begin();
    return *(graphs_[key] = std::move(made));
}

// Rows that a pass of n rows really has; the last one is repeated, and writes the same values to the same cell.
// Float weights on the CPU: two at least, in every product, so that a row's bits do not depend on its company.
// On a device: the next power of two, so that few graphs serve all passes and the device can replay them.
int Forward::padded(int n_rows) const {
    if (attention_) {
        return std::max(n_rows, model_.has_float_weights() ? 2 : 1);
    }
    const std::vector<int> & steps = options_.row_steps;
    const auto step = std::lower_bound(steps.begin(), steps.end(), n_rows);
    int bucket = step == steps.end() ? 1 : *step;
    while (bucket < n_rows) {
        bucket *= 2;
    }
    return std::max(std::min(bucket, options_.n_batch), n_rows);
}

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
        for (size_t k = 0; k < row.sequence->lora_scales.size(); ++k) {
            key.adapters |= uint32_t(row.sequence->lora_scales[k] != 0.0f) << k;
        }
        key.embedded |= ImageRows::is_image(row.token);
        key.candidates |= candidates_on_device_ && (row.want == Want::candidates || row.want == Want::runner_up);
        key.confidence |= key.candidates || (graph_options_.reduce && row.want == Want::confidence);
        if (row.want != Want::nothing) {
            out_index_[i] = static_cast<int>(out_rows_.size());
            out_rows_.push_back(i);
        }
    }
    const bool exact = batch.exact_rows() >= batch.size();
    key.n_rows = exact ? batch.exact_rows() : padded(batch.size());
    if (!attention_) {
        key.pieces = attention_pieces(batch, key.n_rows, cache_.n_cells());
    }
    key.select = exact || static_cast<int>(out_rows_.size()) < batch.size();
    key.unscaled = graph_options_.fused_stores &&
                   std::all_of(batch.rows().begin(), batch.rows().end(),
                               [&](const Row & row) { return model_.hparams().query_scale(row.pos) == 1.0f; });
    key.n_out = out_rows_.empty() ? 0 : exact ? key.n_rows : padded(static_cast<int>(out_rows_.size()));

    Ready & ready = this->ready(key);
    set_inputs(ready.graph, batch, key);
    compute(ready);
    read_outputs(ready.graph, batch);
    settled_ = attention_ || !direct_ || ++ready.n_passes > WARM_UP;  // the few of a scheduler come and go
    ++times_.passes;
    times_.rows += batch.size();
}

void Forward::compute(Ready & ready) {
    const Stopwatch watch(times_.compute);
    const ggml_status status = direct_ ? ggml_backend_graph_compute(backends_.front().get(), ready.graph.graph)
                                       : ggml_backend_sched_graph_compute(ready.scheduler.get(), ready.graph.graph);
    if (status != GGML_STATUS_SUCCESS) {
        throw std::runtime_error(std::string("forward pass failed: ") + ggml_status_to_string(status));
    }
}

}  // namespace trimode
