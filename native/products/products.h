// Our own products of weights with few or many rows on the CPU: which sets of kernels there are, and packed weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ggml.h"
#include "products/layout.h"

namespace trimode::products {

// The sets of kernels that this build has and this processor can run, best first, "plain" last.
std::vector<const Kernels *> available();

// The set in use: the best one, or what the environment variable PYTRIMODE_PRODUCTS names ("off": none). Null where
// none is in use: without one better than "plain", ggml's products are faster. Throws std::invalid_argument for a name
// that is not known or not available here.
const Kernels * in_use();

// Whether weights of a type and shape have a product (whole blocks in a row); by ggml's name of the type in any case.
bool has_product(ggml_type type, int64_t n_in, int64_t n_out);
bool has_product(const std::string & type, int64_t n_in, int64_t n_out);

// Bytes of a packed weight. `type` must have a product.
size_t packed_bytes(ggml_type type, int64_t n_in, int64_t n_out);

// Bytes of a row of quantized activations.
inline size_t activation_bytes(int64_t n_in) { return size_t(n_in / BLOCK) * sizeof(Record); }

bool takes_floats(ggml_type type);  // F32, F16, BF16: their activations are not quantized

// A weight matrix in the layout of the products; the data is its own.
class PackedWeight {
  public:
    PackedWeight(ggml_type type, int64_t n_in, int64_t n_out) : type_(type), n_in_(n_in), n_out_(n_out) {}

    // Room for the data. Throws std::runtime_error when there is none.
    void allocate();

    // Fills tiles [begin, end) from rows in ggml's layout, `source` being row 0. Allocated before.
    void pack(const void * source, int64_t begin, int64_t end);

    ggml_type type() const { return type_; }
    int64_t n_in() const { return n_in_; }
    int64_t n_out() const { return n_out_; }
    int64_t n_tiles() const { return (n_out_ + TILE - 1) / TILE; }
    size_t bytes() const { return packed_bytes(type_, n_in_, n_out_); }
    Multiply * kernel(const Kernels & kernels) const;

    // Tiles that stay in a core's cache while one panel of rows after the other meets them.
    int64_t tiles_in_cache() const;
    Weight weight() const { return {data_.get(), n_in_, n_out_}; }

  private:
    struct Free {
        void operator()(uint8_t * p) const;
    };
    ggml_type type_;
    int64_t n_in_, n_out_;
    std::unique_ptr<uint8_t, Free> data_;
};

}  // namespace trimode::products
