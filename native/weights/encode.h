// Encoding of weights: rows of any type that ggml can read to any type that it can quantize to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "ggml.h"

namespace trimode {

// A weight that cannot be encoded: NaN or infinite in the source, or too large for the target type.
struct EncodeError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The ggml type with this name in any case ("q8_0", "BF16", ...). Throws std::invalid_argument.
ggml_type encode_type_from_name(const std::string & name);

struct EncodeJob {
    const void * src;  // n_rows x n_cols elements, contiguous
    ggml_type src_type;
    ggml_type dst_type;
    int64_t n_rows;
    int64_t n_cols;
    const float *
        imatrix;  // importance of each column, n_cols values that all rows share; null: none, some types need it
};

// Checks types and row length, and returns the number of bytes the result takes. Throws std::invalid_argument.
size_t encode_size(const EncodeJob & job);

// Writes encode_size(job) bytes to dst, with ggml's own quantizers, n_threads at a time (0: all cores).
// The bytes do not depend on n_threads. Throws EncodeError, which gives the index of the first bad element.
void encode_rows(const EncodeJob & job, void * dst, int n_threads);

}  // namespace trimode
