#include "engine/plan_memory.h"

#include <algorithm>

#include "forward/forward.h"
#include "model/adapter.h"
#include "model/lora.h"
#include "model/placement.h"
#include "products/products.h"

namespace trimode {

namespace {

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
        for (const auto & adapter : model.adapters()) {
            weights.insert(weights.end(), adapter->tensors().begin(), adapter->tensors().end());
        }
        std::sort(weights.begin(), weights.end());
        weights.erase(std::unique(weights.begin(), weights.end()), weights.end());  // a tied head is one tensor
        for (const ggml_tensor * t : weights) {
            const products::PackedWeight * packed = model_.packed(t);
            at(t).weights +=
                packed ? packed->bytes() : ggml_backend_buft_get_alloc_size(ggml_backend_buffer_get_type(t->buffer), t);
        }
        cpu_ = find(nullptr);
    }

    void add_kv_cache(size_t bytes) {
        for (const Layer & layer : model_.layers()) {
            at(layer.wk).kv_cache += bytes / model_.layers().size();
        }
    }

    void add_compute(ggml_backend_dev_t device, size_t bytes) { memory_[find(device)].compute += bytes; }

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
    for (const auto & [device, bytes] : engine.forward().planned_bytes()) {
        measure.add_compute(device, bytes);
    }
    return measure.result();
}

}  // namespace trimode
