#include "weights/quantize_file.h"

#include <algorithm>
#include <stdexcept>

#include "llama.h"
#include "util/log.h"
#include "weights/encode.h"

namespace trimode {

void quantize_file(const std::string & in, const std::string & out, const QuantizeFileOptions & options) {
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.nthread = 1;
    params.ftype = (llama_ftype)options.ftype;
    params.allow_requantize = true;
    params.quantize_output_tensor = options.quantize_output_tensor;
    params.pure = options.pure;
    if (!options.output_tensor_type.empty()) {
        params.output_tensor_type = encode_type_from_name(options.output_tensor_type);
    }
    if (!options.token_embedding_type.empty()) {
        params.token_embedding_type = encode_type_from_name(options.token_embedding_type);
    }
    std::vector<llama_model_tensor_override> overrides;
    for (const auto & [pattern, type] : options.tensor_types) {
        overrides.push_back({pattern.c_str(), encode_type_from_name(type)});
    }
    overrides.push_back({nullptr, GGML_TYPE_COUNT});
    params.tt_overrides = overrides.data();

    std::vector<float> ones;
    for (const auto & [name, n] : options.imatrix) {
        ones.resize(std::max(ones.size(), (size_t)n), 1.0f);
    }
    std::vector<llama_model_imatrix_data> imatrix;
    for (const auto & [name, n] : options.imatrix) {
        imatrix.push_back({name.c_str(), ones.data(), (size_t)n});
    }
    imatrix.push_back({nullptr, nullptr, 0});
    params.imatrix = options.imatrix.empty() ? nullptr : imatrix.data();

    Log::clear_error();
    if (llama_model_quantize(in.c_str(), out.c_str(), &params) != 0) {
        throw std::runtime_error(Log::last_error());
    }
}

}  // namespace trimode
