// Python binding of activations.h: pytrimode._native.Activations.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/gil.h"
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
    using released = nb::call_guard<GilReleased>;
    nb::class_<Activations>(m, "Activations",
                            "Squares of what goes into each weight matrix, summed up over passes of libllama. See "
                            "`native/weights/activations.h`.")
        .def(
            "__init__",
            [](Activations * self, const Model & model, const std::string & lora_path, int n_ctx, int n_threads) {
                const GilReleased release;
                new (self) Activations(model, lora_path, n_ctx, n_threads);
            },
            "model"_a, nb::kw_only(), "lora_path"_a = "", "n_ctx"_a = 512, "n_threads"_a = 0, nb::keep_alive<1, 2>(),
            "Take a model that was loaded with `repack=False`. `n_threads` 0: libllama's default. Raises ValueError "
            "for a model that libllama cannot run so, RuntimeError for an adapter that cannot be loaded and without "
            "memory.")
        .def("causal", &Activations::causal, "tokens"_a, "position"_a = 0, released(),
             "Run a causal pass over tokens from `position` on; what the cache holds from there on is dropped before.")
        .def("block", &Activations::block, "tokens"_a, "position"_a, "lora"_a = false, released(),
             "Run the same pass, but its rows see each other in both directions, with the LoRA if asked for; "
             "nothing stays in the cache.")
        .def("sums", &sums, nb::sig("def sums(self) -> dict[str, tuple[numpy.typing.NDArray[numpy.float64], int]]"),
             "By the name of a weight: the sum of squares of each column, and the rows.");
}
