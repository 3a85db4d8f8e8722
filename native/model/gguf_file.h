// Read access to the metadata and the tensor table of one GGUF file, values in their stored precision.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ggml-cpp.h"

namespace trimode {

class GgufFile {
  public:
    // Throws std::runtime_error naming the file when it cannot be opened or is not GGUF.
    explicit GgufFile(const std::string & path);

    std::optional<std::string> str(const std::string & key) const;
    std::optional<double> number(const std::string & key) const;  // any scalar numeric or bool type

    // A number that is whole and in the range of int; std::runtime_error naming file, key and value for another one.
    std::optional<int> integer(const std::string & key) const;

    // The value, or std::runtime_error naming file and key.
    double require(const std::string & key) const;
    int require_integer(const std::string & key) const;

    const std::string & path() const { return path_; }
    gguf_context * raw() const { return gguf_.get(); }
    ggml_context * tensors() const { return tensors_.get(); }  // shapes and types; no data

  private:
    std::string path_;
    gguf_context_ptr gguf_;
    ggml_context_ptr tensors_;
};

}  // namespace trimode
