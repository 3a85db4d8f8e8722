#include "weights/quantize_file.h"

#include <algorithm>
#include <stdexcept>

#include "llama.h"
#include "util/log.h"
#include "weights/encode.h"

namespace trimode {

namespace {

// Types of tensors whose names match; ends with a null pattern, as libllama wants it.
std::vector<llama_model_tensor_override> overrides_of(const QuantizeFileOptions & options) {
    std::vector<llama_model_tensor_override> overrides;
    for (const auto & [pattern, type] : options.tensor_types) {
        overrides.push_back({pattern.c_str(), encode_type_from_name(type)});
    }
    overrides.push_back({nullptr, GGML_TYPE_COUNT});
    return overrides;
}

// An importance matrix of ones.
class FlatImatrix {
  public:
    explicit FlatImatrix(const std::vector<std::pair<std::string, int64_t>> & lengths) {
        size_t longest = 0;
        for (const auto & [name, n] : lengths) {
            longest = std::max(longest, static_cast<size_t>(n));
        }
        ones_.assign(longest, 1.0f);
        for (const auto & [name, n] : lengths) {
            entries_.push_back({name.c_str(), ones_.data(), static_cast<size_t>(n)});
        }
        entries_.push_back({nullptr, nullptr, 0});
    }

    // Null without entries.
    const llama_model_imatrix_data * data() const { return entries_.size() > 1 ? entries_.data() : nullptr; }

  private:
    std::vector<float> ones_;
    std::vector<llama_model_imatrix_data> entries_;
};

}  // namespace

void quantize_file(const std::string & in, const std::string & out, const QuantizeFileOptions & options) {
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.nthread = 1;
    params.ftype = static_cast<llama_ftype>(options.ftype);
    params.allow_requantize = true;
    params.quantize_output_tensor = options.quantize_output_tensor;
    params.pure = options.pure;
    if (!options.output_tensor_type.empty()) {
        params.output_tensor_type = encode_type_from_name(options.output_tensor_type);
    }
    if (!options.token_embedding_type.empty()) {
        params.token_embedding_type = encode_type_from_name(options.token_embedding_type);
    }
    const std::vector<llama_model_tensor_override> overrides = overrides_of(options);
    params.tt_overrides = overrides.data();
    const FlatImatrix imatrix(options.imatrix);
    params.imatrix = imatrix.data();

    Log::clear_error();
    if (llama_model_quantize(in.c_str(), out.c_str(), &params) != 0) {
        throw std::runtime_error(Log::last_error());
    }
}

}  // namespace trimode
