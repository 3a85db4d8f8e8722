// The tensors of a LoRA adapter's file (llama.cpp's format), in F32.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "model/gguf_file.h"

namespace trimode {

class AdapterFile {
  public:
    // Throws std::runtime_error that names the file and the key, as do the others.
    explicit AdapterFile(const std::string & path);

    // Weights that have a pair of matrices, such as blk.0.attn_q.weight, in the order of the file.
    std::vector<std::string> weights() const;

    // Checks the pair of a weight [n_in, n_out] and returns its rank.
    int rank(const std::string & weight, int64_t n_in, int64_t n_out) const;

    // Matrix a [n_in, rank] of a weight, and b [rank, n_out] multiplied by alpha / rank; with zeros for ranks up to
    // `padded`.
    std::vector<float> a(const std::string & weight, int padded);
    std::vector<float> b(const std::string & weight, int padded);

  private:
    const ggml_tensor * find(const std::string & name) const;
    std::vector<float> read(const ggml_tensor * t);

    GgufFile file_;
    std::ifstream stream_;
    double alpha_;
};

}  // namespace trimode
