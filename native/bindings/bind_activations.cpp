// Python binding of activations.h: pytrimode._native.Activations.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "weights/activations.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

// name -> (squares as a numpy array of its own, rows)
nb::dict sums(const Activations & activations) {
    nb::dict found;
    for (const auto & [name, sum] : activations.sums()) {
        auto * copy = new std::vector<double>(sum.squares);
        const nb::capsule owner(copy, [](void * p) noexcept { delete static_cast<std::vector<double> *>(p); });
        const nb::ndarray<nb::numpy, double, nb::ndim<1>> squares(copy->data(), {copy->size()}, owner);
        found[name.c_str()] = nb::make_tuple(squares, sum.rows);
    }
    return found;
}

}  // namespace

void bind_activations(nb::module_ & m) {
    using released = nb::call_guard<nb::gil_scoped_release>;
    nb::class_<Activations>(m, "Activations")
        .def(
            "__init__",
            [](Activations * self, const Model & model, const std::string & lora_path, int n_ctx, int n_threads) {
                const nb::gil_scoped_release release;
                new (self) Activations(model, lora_path, n_ctx, n_threads);
            },
            "model"_a, nb::kw_only(), "lora_path"_a = "", "n_ctx"_a = 512, "n_threads"_a = 0, nb::keep_alive<1, 2>())
        .def("causal", &Activations::causal, "tokens"_a, "position"_a = 0, released())
        .def("block", &Activations::block, "tokens"_a, "position"_a, "lora"_a = false, released())
        .def("sums", &sums);
}
