// The types that libllama's own quantization would give the tensors of a file.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace trimode {

struct QuantizationOptions {
    int ftype = 0;                     // enum llama_ftype
    std::string output_tensor_type;    // name of a ggml type; empty: libllama's choice
    std::string token_embedding_type;  // the same
    bool quantize_output_tensor = true;
    bool pure = false;
    std::vector<std::pair<std::string, std::string>> tensor_types;  // regular expression, name of a ggml type
    // Tensors that have an importance matrix, with the length of their rows; here every column is as important.
    std::vector<std::pair<std::string, int64_t>> imatrix;
};

// Names of tensors and of ggml types, from the log of libllama's dry run: its API returns neither. Throws
// std::invalid_argument for unknown types, std::runtime_error with libllama's reason when it refuses, and where it
// would need an importance matrix.
std::vector<std::pair<std::string, std::string>> quantized_types(const std::string & path,
                                                                 const QuantizationOptions & options);

}  // namespace trimode
