// Python binding of ggml's table of tensor types: pytrimode._native.tensor_type.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <stdexcept>
#include <string>
#include <tuple>

#include "ggml.h"

namespace nb = nanobind;
using namespace nb::literals;

void bind_gguf(nb::module_ & m) {
    m.def(
        "tensor_type",
        [](int number) {
            if (number < 0 || number >= GGML_TYPE_COUNT || ggml_blck_size(static_cast<ggml_type>(number)) == 0) {
                throw std::invalid_argument("ggml has no tensor type " + std::to_string(number));
            }
            const ggml_type type = static_cast<ggml_type>(number);
            return std::make_tuple(std::string(ggml_type_name(type)), ggml_blck_size(type), ggml_type_size(type));
        },
        "number"_a,
        "Return name, elements per block and bytes per block of a tensor type (enum ggml_type). Raises ValueError "
        "without one.");
}
