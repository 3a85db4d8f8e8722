// Python bindings of products/: pytrimode._native.PackedWeight, product_kernels, ...
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "ggml-alloc.h"
#include "ggml-backend.h"
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
    const nb::gil_scoped_release others_may_run;
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
            ggml_backend_dev_backend_reg(ggml_backend_get_device(backend_)), "ggml_backend_set_n_threads"));
        set_threads(backend_, 1);
        context_ = ggml_init({ggml_tensor_overhead(), nullptr, /*no_alloc=*/true});
        weight_ = ggml_new_tensor_2d(context_, type, n_in, n_out);
        buffer_ = ggml_backend_alloc_ctx_tensors_from_buft(context_, buffer_type(repack));
        ggml_backend_tensor_set(weight_, data.c_str(), 0, data.size());
    }
    ~GgmlProduct() {
        ggml_backend_buffer_free(buffer_);
        ggml_free(context_);
        ggml_backend_free(backend_);
    }
    GgmlProduct(const GgmlProduct &) = delete;

    bool is_repacked() const { return ggml_backend_buffer_get_type(buffer_) != ggml_backend_cpu_buffer_type(); }

    Output multiply(const Rows & x) const {
        check_columns(x, weight_->ne[0]);
        ggml_context * context = ggml_init({ggml_tensor_overhead() * 4 + ggml_graph_overhead(), nullptr, true});
        ggml_tensor * in = ggml_new_tensor_2d(context, GGML_TYPE_F32, weight_->ne[0], x.shape(0));
        ggml_tensor * product = ggml_mul_mat(context, weight_, in);
        ggml_cgraph * graph = ggml_new_graph(context);
        ggml_build_forward_expand(graph, product);
        ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(context, backend_);
        ggml_backend_tensor_set(in, x.data(), 0, ggml_nbytes(in));
        ggml_backend_graph_compute(backend_, graph);
        Output out = new_output(x.shape(0), weight_->ne[1]);
        ggml_backend_tensor_get(product, out.data(), 0, ggml_nbytes(product));
        ggml_backend_buffer_free(buffer);
        ggml_free(context);
        return out;
    }

  private:
    // ggml's extra buffer type that takes products of this weight; AMX apart, which some compilers break.
    ggml_backend_buffer_type_t buffer_type(bool repack) const {
        ggml_backend_dev_t device = ggml_backend_get_device(backend_);
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
        ggml_backend_buffer_t probe = ggml_backend_buft_alloc_buffer(type, 0);
        ggml_context * context = ggml_init({ggml_tensor_overhead() * 4, nullptr, true});
        ggml_tensor * w = ggml_new_tensor_2d(context, weight_->type, weight_->ne[0], weight_->ne[1]);
        w->buffer = probe;
        ggml_tensor * x = ggml_new_tensor_2d(context, GGML_TYPE_F32, weight_->ne[0], 1);
        const bool found = ggml_backend_dev_supports_op(ggml_backend_get_device(backend_), ggml_mul_mat(context, w, x));
        ggml_free(context);
        ggml_backend_buffer_free(probe);
        return found;
    }

    ggml_backend_t backend_;
    ggml_context * context_ = nullptr;
    ggml_tensor * weight_ = nullptr;
    ggml_backend_buffer_t buffer_ = nullptr;
};

}  // namespace

void bind_products(nb::module_ & m) {
    m.def("product_kernels", [] {
        std::vector<std::string> names;
        for (const Kernels * set : available()) {
            names.emplace_back(set->name);
        }
        return names;
    });
    m.def("product_kernels_in_use", []() -> std::optional<std::string> {
        return in_use() ? std::optional<std::string>(in_use()->name) : std::nullopt;
    });
    m.def("has_product", nb::overload_cast<const std::string &, int64_t, int64_t>(&has_product), "type"_a, "n_in"_a,
          "n_out"_a);
    nb::class_<PackedWeight>(m, "PackedWeight")
        .def(
            "__init__",
            [](PackedWeight * self, const std::string & type, const nb::bytes & data, int64_t n_in, int64_t n_out) {
                new (self) PackedWeight(pack(type, data, n_in, n_out));
            },
            "type"_a, "data"_a, "n_in"_a, "n_out"_a)
        .def_prop_ro("n_bytes", &PackedWeight::bytes)
        .def("multiply", &multiply, "x"_a, "kernels"_a, "piece"_a = 0);
    nb::class_<GgmlProduct>(m, "GgmlProduct")
        .def(nb::init<const std::string &, const nb::bytes &, int64_t, int64_t, bool>(), "type"_a, "data"_a, "n_in"_a,
             "n_out"_a, "repack"_a)
        .def_prop_ro("is_repacked", &GgmlProduct::is_repacked)
        .def("multiply", &GgmlProduct::multiply, "x"_a);
}
