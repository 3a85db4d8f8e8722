#include "model/model_params.h"

#include <cstring>

#include "ggml-backend.h"

namespace trimode {

namespace {

bool ggml_uses_amx() {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (!cpu) {
        return false;
    }
    const auto get_features = reinterpret_cast<ggml_backend_get_features_t>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_get_features"));
    if (!get_features) {
        return false;
    }
    for (const ggml_backend_feature * f = get_features(ggml_backend_dev_backend_reg(cpu)); f->name; ++f) {
        if (std::strcmp(f->name, "AMX_INT8") == 0) {
            return std::strcmp(f->value, "0") != 0;
        }
    }
    return false;
}

}  // namespace

llama_model_params default_model_params() {
    llama_model_params params = llama_model_default_params();
    params.use_extra_bufts = params.use_extra_bufts && !ggml_uses_amx();
    return params;
}

}  // namespace trimode
