// plan_memory as Python sees it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/gil.h"
#include "engine/plan_memory.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

nb::list memory(const std::string & path, const std::optional<std::string> & lora_path, int n_gpu_layers, int n_ctx,
                int n_parallel, int n_batch, const std::string & type_k, const std::string & type_v, bool flash_attn,
                const std::vector<std::string> & devices, const std::string & split_mode, int main_gpu,
                const std::vector<float> & tensor_split, const std::vector<std::string> & adapters) {
    std::vector<DeviceMemory> found;
    {
        const GilReleased release;
        ModelOptions model;
        model.lora_path = lora_path.value_or("");
        model.adapters = adapters;
        model.n_gpu_layers = n_gpu_layers;
        model.devices = {devices, split_mode, main_gpu, tensor_split};
        EngineOptions engine;
        engine.n_ctx = n_ctx;
        engine.n_parallel = n_parallel;
        engine.n_batch = n_batch;
        engine.type_k = type_k;
        engine.type_v = type_v;
        engine.flash_attn = flash_attn;
        found = plan_memory(path, model, engine);
    }
    nb::list result;
    for (const DeviceMemory & device : found) {
        nb::dict entry;
        entry["device"] = device.device;
        entry["weights"] = device.weights;
        entry["kv_cache"] = device.kv_cache;
        entry["compute"] = device.compute;
        result.append(entry);
    }
    return result;
}

constexpr const char * SIGNATURE =
    "def plan_memory(path: str, *, lora_path: str | None = None, n_gpu_layers: int = 0, n_ctx: int, "
    "n_parallel: int = 1, n_batch: int = 512, type_k: str = 'f16', type_v: str = 'f16', flash_attn: bool = True, "
    "devices: collections.abc.Sequence[str] = [], split_mode: str = 'layer', main_gpu: int = 0, "
    "tensor_split: collections.abc.Sequence[float] = [], adapters: collections.abc.Sequence[str] = []) -> "
    "list[DeviceMemory]";

constexpr const char * ABOUT =
    "Estimate what the engine would take, the CPU last; nothing is loaded. See `native/engine/plan_memory.h`.\n\n"
    "Raises as `Model` and `Engine` do.";

}  // namespace

void bind_plan(nb::module_ & m) {
    m.def("plan_memory", &memory, "path"_a, nb::kw_only(), "lora_path"_a = nb::none(), "n_gpu_layers"_a = 0, "n_ctx"_a,
          "n_parallel"_a = 1, "n_batch"_a = 512, "type_k"_a = "f16", "type_v"_a = "f16", "flash_attn"_a = true,
          "devices"_a = std::vector<std::string>{}, "split_mode"_a = "layer", "main_gpu"_a = 0,
          "tensor_split"_a = std::vector<float>{}, "adapters"_a = std::vector<std::string>{}, nb::sig(SIGNATURE),
          ABOUT);
}
