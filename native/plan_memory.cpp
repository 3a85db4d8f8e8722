#include "plan_memory.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "forward.h"
#include "ggml-cpu.h"
#include "lora.h"
#include "placement.h"

namespace trimode {

namespace {

struct FreeBackend {
    void operator()(ggml_backend_t backend) const { ggml_backend_free(backend); }
};

ggml_type type_of(const std::string & name) {  // Engine has checked it
    for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
        const char * known = ggml_type_name(static_cast<ggml_type>(type));
        if (known && name == known) {
            return static_cast<ggml_type>(type);
        }
    }
    return GGML_TYPE_F16;
}

using Backend = std::unique_ptr<ggml_backend, FreeBackend>;

class Measure {
  public:
    explicit Measure(const Model & model) : model_(model) {
        std::vector<const ggml_tensor *> weights = {model.token_embd(), model.output_norm(), model.output()};
        for (size_t i = 0; i < model.layers().size(); ++i) {
            const Layer & l = model.layers()[i];
            weights.insert(weights.end(),
                           {l.attn_norm, l.wq, l.wk, l.wv, l.wo, l.ffn_norm, l.ffn_gate, l.ffn_up, l.ffn_down});
            if (model.lora()) {
                weights.insert(weights.end(), {model.lora()->layer(static_cast<int>(i)).a,
                                               model.lora()->layer(static_cast<int>(i)).b});
            }
        }
        std::sort(weights.begin(), weights.end());
        weights.erase(std::unique(weights.begin(), weights.end()), weights.end());  // a tied head is one tensor
        for (const ggml_tensor * t : weights) {
            at(t).weights += ggml_backend_buft_get_alloc_size(ggml_backend_buffer_get_type(t->buffer), t);
        }
        cpu_ = find(nullptr);
    }

    void add_kv_cache(size_t bytes) {
        for (const Layer & layer : model_.layers()) {
            at(layer.wk).kv_cache += bytes / model_.layers().size();
        }
    }

    bool cpu_only() const { return devices_.size() == 1; }
    void set_cpu_compute(size_t bytes) { memory_[cpu_].compute = bytes; }

    void measure_devices(const EngineOptions & options, int n_tokens) {
        std::vector<Backend> owned;
        std::vector<ggml_backend_t> backends;
        std::vector<size_t> index, sizes;
        for (size_t i = 0; i <= devices_.size(); ++i) {  // the CPU last
            const size_t at = i < devices_.size() ? i : cpu_;
            if (i == cpu_) {
                continue;
            }
            owned.emplace_back(devices_[at] ? ggml_backend_dev_init(devices_[at], nullptr)
                                            : ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
            if (!owned.back()) {
                throw std::runtime_error("device " + memory_[at].device + " could not be initialized");
            }
            backends.push_back(owned.back().get());
            index.push_back(at);
        }
        sizes.resize(backends.size());
        const int n_cells = static_cast<int>(GGML_PAD(n_tokens, CELL_BUCKET));
        const KvCache cache(model_, n_cells, type_of(options.type_k), type_of(options.type_v));
        GraphKey largest{};
        largest.n_rows = options.n_batch;
        largest.n_out = std::min(options.n_batch, RESERVED_OUTPUTS);
        largest.n_kv = n_cells;
        largest.lora = model_.lora() != nullptr;
        largest.select = true;
        const GraphOptions graph_options{options.flash_attn, /*bit_stable=*/false};
        const Graph graph = build_graph(model_, cache, graph_options, largest);
        ggml_backend_sched_t scheduler =
            ggml_backend_sched_new(backends.data(), nullptr, static_cast<int>(backends.size()), SCHEDULER_NODES,
                                   /*parallel=*/false, /*op_offload=*/true);
        ggml_backend_sched_reserve_size(scheduler, graph.graph, sizes.data());
        ggml_backend_sched_free(scheduler);
        for (size_t i = 0; i < sizes.size(); ++i) {
            memory_[index[i]].compute = sizes[i];
        }
    }

    // The CPU last.
    std::vector<DeviceMemory> result() {
        std::rotate(memory_.begin() + cpu_, memory_.begin() + cpu_ + 1, memory_.end());
        return memory_;
    }

  private:
    size_t find(ggml_backend_dev_t device) {
        const auto found = std::find(devices_.begin(), devices_.end(), device);
        if (found != devices_.end()) {
            return found - devices_.begin();
        }
        devices_.push_back(device);
        memory_.push_back({device ? ggml_backend_dev_name(device) : "CPU"});
        return devices_.size() - 1;
    }

    DeviceMemory & at(const ggml_tensor * t) { return memory_[find(device_of(t))]; }

    const Model & model_;
    std::vector<ggml_backend_dev_t> devices_;  // nullptr: the CPU
    std::vector<DeviceMemory> memory_;
    size_t cpu_ = 0;
};

}  // namespace

std::vector<DeviceMemory> plan_memory(const std::string & path, ModelOptions model_options,
                                      const EngineOptions & engine_options) {
    model_options.no_alloc = true;
    const Model model(path, model_options);
    const Engine engine(model, engine_options);
    Measure measure(model);
    measure.add_kv_cache(engine.kv_cache_bytes());
    if (measure.cpu_only()) {
        measure.set_cpu_compute(engine.compute_bytes());
    } else {
        measure.measure_devices(engine_options, engine_options.n_ctx);
    }
    return measure.result();
}

}  // namespace trimode
