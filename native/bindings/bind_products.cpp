// Python bindings of products/: pytrimode._native.PackedWeight, product_kernels, ...
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "bindings/gil.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"
#include "products/products.h"
#include "weights/encode.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode::products;

namespace {

using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

const Kernels & find_kernels(const std::string & name) {
    for (const Kernels * set : available()) {
        if (name == set->name) {
            return *set;
        }
    }
    throw std::invalid_argument("kernels \"" + name + "\" are not available here");
}

void check_size(ggml_type type, const nb::bytes & data, int64_t n_in, int64_t n_out) {
    if (!has_product(type, n_in, n_out)) {
        throw std::invalid_argument(std::string("there is no product of ") + ggml_type_name(type) + " weights [" +
                                    std::to_string(n_in) + ", " + std::to_string(n_out) + "]");
    }
    if (data.size() != ggml_row_size(type, n_in) * n_out) {
        throw std::invalid_argument(std::to_string(data.size()) + " bytes are not " + std::to_string(n_out) +
                                    " rows of " + std::to_string(n_in) + " elements of type " + ggml_type_name(type));
    }
}

Output new_output(int64_t n_rows, int64_t n_out) {
    float * data = new float[n_rows * n_out];
    const nb::capsule owner(data, [](void * p) noexcept { delete[] static_cast<float *>(p); });
    return Output(data, {size_t(n_rows), size_t(n_out)}, owner);
}

void check_columns(const Rows & x, int64_t n_in) {
    if (static_cast<int64_t>(x.shape(1)) != n_in) {
        throw std::invalid_argument("rows of " + std::to_string(x.shape(1)) + " values for weights of " +
                                    std::to_string(n_in) + " columns");
    }
}

PackedWeight pack(const std::string & type_name, const nb::bytes & data, int64_t n_in, int64_t n_out) {
    const ggml_type type = trimode::encode_type_from_name(type_name);
    check_size(type, data, n_in, n_out);
    PackedWeight weight(type, n_in, n_out);
    weight.allocate();
    weight.pack(data.c_str(), 0, weight.n_tiles());
    return weight;
}

// The records of all rows, as ops.cpp lays them out.
std::vector<Record> quantize(const Kernels & kernels, const Rows & x) {
    const int64_t n_rows = x.shape(0);
    const int64_t n_in = x.shape(1);
    std::vector<Record> records(n_rows * (n_in / BLOCK));
    for (int64_t row = 0; row < n_rows; ++row) {
        const int64_t first = row / PANEL * PANEL;
        kernels.quantize(x.data() + row * n_in, n_in, records.data() + first * (n_in / BLOCK) + (row - first),
                         std::min<int64_t>(n_rows - first, PANEL));
    }
    return records;
}

// Tiles in pieces of `piece` (0: as a thread alone would take them).
Output multiply(const PackedWeight & weight, const Rows & x, const std::string & kernels_name, int64_t piece) {
    check_columns(x, weight.n_in());
    const Kernels & kernels = find_kernels(kernels_name);
    Output out = new_output(x.shape(0), weight.n_out());
    const trimode::GilReleased others_may_run;
    std::vector<Record> records;
    if (!takes_floats(weight.type())) {
        records = quantize(kernels, x);
    }
    const void * activations = records.empty() ? static_cast<const void *>(x.data()) : records.data();
    const Job job{weight.weight(), activations, static_cast<int64_t>(x.shape(0)),
                  weight.n_in(),   out.data(),  weight.n_out()};
    const int64_t n_tiles = weight.n_tiles();
    const int64_t step = piece > 0 ? piece : job.n_rows > PANEL ? weight.tiles_in_cache() : n_tiles;
    for (int64_t tile = 0; tile < n_tiles; tile += step) {
        weight.kernel(kernels)(job, tile, std::min(tile + step, n_tiles));
    }
    return out;
}

// ggml's product of the same weights, to compare with: its plain kernels, or the repacked ones where it has them.
class GgmlProduct {
  public:
    GgmlProduct(const std::string & type_name, const nb::bytes & data, int64_t n_in, int64_t n_out, bool repack)
        : backend_(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr)) {
        const ggml_type type = trimode::encode_type_from_name(type_name);
        if (data.size() != ggml_row_size(type, n_in) * n_out) {
            throw std::invalid_argument("not " + std::to_string(n_out) + " rows of " + std::to_string(n_in));
        }
        const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(ggml_backend_get_device(backend_.get())), "ggml_backend_set_n_threads"));
        set_threads(backend_.get(), 1);
        context_.reset(ggml_init({ggml_tensor_overhead(), nullptr, /*no_alloc=*/true}));
        weight_ = ggml_new_tensor_2d(context_.get(), type, n_in, n_out);
        buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), buffer_type(repack)));
        ggml_backend_tensor_set(weight_, data.c_str(), 0, data.size());
    }

    bool is_repacked() const { return ggml_backend_buffer_get_type(buffer_.get()) != ggml_backend_cpu_buffer_type(); }

    Output multiply(const Rows & x) const {
        check_columns(x, weight_->ne[0]);
        const ggml_context_ptr context(
            ggml_init({ggml_tensor_overhead() * 4 + ggml_graph_overhead(), nullptr, /*no_alloc=*/true}));
        ggml_tensor * in = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, weight_->ne[0], x.shape(0));
        ggml_tensor * product = ggml_mul_mat(context.get(), weight_, in);
        ggml_cgraph * graph = ggml_new_graph(context.get());
        ggml_build_forward_expand(graph, product);
        const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(context.get(), backend_.get()));
        ggml_backend_tensor_set(in, x.data(), 0, ggml_nbytes(in));
        ggml_backend_graph_compute(backend_.get(), graph);
        Output out = new_output(x.shape(0), weight_->ne[1]);
        ggml_backend_tensor_get(product, out.data(), 0, ggml_nbytes(product));
        return out;
    }

  private:
    // ggml's extra buffer type that takes products of this weight; AMX apart, which some compilers break.
    ggml_backend_buffer_type_t buffer_type(bool repack) const {
        ggml_backend_dev_t device = ggml_backend_get_device(backend_.get());
        const auto get = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
        for (ggml_backend_buffer_type_t * b = repack && get ? get(device) : nullptr; b && *b; ++b) {
            if (std::string(ggml_backend_buft_name(*b)) == "CPU_REPACK" && supported(*b)) {
                return *b;
            }
        }
        return ggml_backend_cpu_buffer_type();
    }

    bool supported(ggml_backend_buffer_type_t type) const {
        const ggml_backend_buffer_ptr probe(ggml_backend_buft_alloc_buffer(type, 0));
        const ggml_context_ptr context(ggml_init({ggml_tensor_overhead() * 4, nullptr, /*no_alloc=*/true}));
        ggml_tensor * w = ggml_new_tensor_2d(context.get(), weight_->type, weight_->ne[0], weight_->ne[1]);
        w->buffer = probe.get();
        ggml_tensor * x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, weight_->ne[0], 1);
        return ggml_backend_dev_supports_op(ggml_backend_get_device(backend_.get()), ggml_mul_mat(context.get(), w, x));
    }

    ggml_backend_ptr backend_;
    ggml_context_ptr context_;
    ggml_backend_buffer_ptr buffer_;
    ggml_tensor * weight_ = nullptr;
};

}  // namespace

void bind_products(nb::module_ & m) {
    m.def(
        "product_kernels",
        [] {
            std::vector<std::string> names;
            for (const Kernels * set : available()) {
                names.emplace_back(set->name);
            }
            return names;
        },
        "List the sets of CPU kernels that this machine can run, best first, \"plain\" last. See `native/products/`.");
    m.def(
        "product_kernels_in_use",
        []() -> std::optional<std::string> {
            return in_use() ? std::optional<std::string>(in_use()->name) : std::nullopt;
        },
        "Return the best set, or the one that $PYTRIMODE_PRODUCTS names; None: ggml multiplies. Raises ValueError "
        "for an unknown name.");
    m.def("has_product", nb::overload_cast<const std::string &, int64_t, int64_t>(&has_product), "type"_a, "n_in"_a,
          "n_out"_a, "Whether weights of a type and shape have a product of our own.");
    nb::class_<PackedWeight>(m, "PackedWeight",
                             "Weights [n_out, n_in] as our products take them, from rows as ggml stores them.")
        .def(
            "__init__",
            [](PackedWeight * self, const std::string & type, const nb::bytes & data, int64_t n_in, int64_t n_out) {
                new (self) PackedWeight(pack(type, data, n_in, n_out));
            },
            "type"_a, "data"_a, "n_in"_a, "n_out"_a)
        .def_prop_ro("n_bytes", &PackedWeight::bytes, "Bytes in memory.")
        .def("multiply", &multiply, "x"_a, "kernels"_a, "piece"_a = 0,
             "Multiply rows [n, n_in] with the weights: [n, n_out], in one thread, `piece` tiles of 16 outputs at "
             "once.");
    nb::class_<GgmlProduct>(m, "GgmlProduct",
                            "The same product by ggml, in one thread too; `repack`: in ggml's own layout where it has "
                            "one.")
        .def(nb::init<const std::string &, const nb::bytes &, int64_t, int64_t, bool>(), "type"_a, "data"_a, "n_in"_a,
             "n_out"_a, "repack"_a)
        .def_prop_ro("is_repacked", &GgmlProduct::is_repacked, "Whether ggml's own layout is used.")
        .def("multiply", &GgmlProduct::multiply, "x"_a, "Rows [n, n_in] times the weights: [n, n_out].");
}
