// The products as operations of a ggml graph.
#pragma once

#include <memory>
#include <vector>

#include "ggml.h"
#include "products/products.h"

namespace trimode::products {

struct Op;

// Makes a graph's operations and owns what they refer to: it must live as long as the graph. Each input is quantized
// once, however many weights it meets.
class Ops {
  public:
    Ops();
    ~Ops();
    Ops(Ops &&) noexcept;
    Ops & operator=(Ops &&) noexcept;

    // F32 [n_out, n_rows]: rows x [n_in, n_rows] (F32, a row contiguous) times `weight`, which must stay where it is.
    ggml_tensor * multiply(ggml_context * context, const PackedWeight & weight, ggml_tensor * x);

  private:
    ggml_tensor * quantized(ggml_context * context, ggml_tensor * x);

    std::vector<std::unique_ptr<Op>> ops_;
    std::vector<std::pair<const ggml_tensor *, ggml_tensor *>> quantized_;
};

}  // namespace trimode::products
