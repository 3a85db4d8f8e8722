#include "weights/quantized_types.h"

#include <algorithm>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "llama.h"
#include "util/log.h"
#include "weights/encode.h"

namespace trimode {

namespace {

// Types of tensors whose names match; ends with a null pattern, as libllama wants it.
std::vector<llama_model_tensor_override> overrides_of(const QuantizationOptions & options) {
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

// "[ 2/ 21] token_embd.weight - [ 256, 512, 1, 1], type = bf16, size = 0.250 MiB -> 0.070 MiB (q4_K)": the type stands
// at the end where it changes.
std::vector<std::pair<std::string, std::string>> types_in(const std::string & log) {
    static const std::regex tensor(R"(\[ *\d+/ *\d+\] (.+?) +- \[.*\], type = +(\w+), size = [^(]*(?:\((\w+)\))?)");
    std::vector<std::pair<std::string, std::string>> types;
    std::istringstream lines(log);
    for (std::string line; std::getline(lines, line);) {
        std::smatch found;
        if (std::regex_match(line, found, tensor)) {
            types.emplace_back(found[1], found[3].matched ? found[3] : found[2]);
        }
    }
    return types;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> quantized_types(const std::string & path,
                                                                 const QuantizationOptions & options) {
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.nthread = 1;
    params.dry_run = true;
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
    const Log::Recording log;
    if (llama_model_quantize(path.c_str(), "", &params) != 0) {
        throw std::runtime_error(Log::last_error());
    }
    if (log.text().find("will require an imatrix") != std::string::npos) {
        throw std::runtime_error("this quantization requires an importance matrix");
    }
    return types_in(log.text());
}

}  // namespace trimode
