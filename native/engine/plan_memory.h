// What the engine would take of each device's memory, asked from libllama and ggml: nothing is loaded, and of what is
// allocated nothing is touched.
#pragma once

#include <string>
#include <vector>

#include "engine/engine.h"

namespace trimode {

struct DeviceMemory {
    std::string device;  // ggml's name: CPU, CUDA0, ...
    size_t weights = 0;  // drafter LoRA included
    size_t kv_cache = 0;
    size_t compute = 0;
};

// The CPU last. Only the header of the file is read, so data may be a hole in it. On the CPU, what Engine reports; on
// a device, what ggml's scheduler asks for the largest pass. Throws as Model and Engine do.
std::vector<DeviceMemory> plan_memory(const std::string & path, ModelOptions model_options,
                                      const EngineOptions & engine_options);

}  // namespace trimode
