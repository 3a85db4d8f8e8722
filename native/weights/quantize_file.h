// llama_model_quantize, libllama's own quantization of a file.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace trimode {

struct QuantizeFileOptions {
    int ftype = 0;                     // enum llama_ftype
    std::string output_tensor_type;    // name of a ggml type; empty: libllama's choice
    std::string token_embedding_type;  // the same
    bool quantize_output_tensor = true;
    bool pure = false;
    std::vector<std::pair<std::string, std::string>> tensor_types;  // regular expression, name of a ggml type
    // Tensors that have an importance matrix, with the length of their rows; here every column is as important.
    std::vector<std::pair<std::string, int64_t>> imatrix;
};

// Quantizes `in` to `out`, on one thread. Throws std::invalid_argument for unknown types, std::runtime_error with
// libllama's reason when it refuses.
void quantize_file(const std::string & in, const std::string & out, const QuantizeFileOptions & options);

}  // namespace trimode
