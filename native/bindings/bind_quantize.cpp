// Python bindings of what quantization needs of libllama: pytrimode._native.quantize_file, requires_imatrix.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/gil.h"
#include "weights/encode.h"
#include "weights/quantize_file.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

void bind_quantize(nb::module_ & m) {
    m.def(
        "quantize_file",
        [](const std::string & in, const std::string & out, int ftype, const std::string & output_tensor_type,
           const std::string & token_embedding_type, bool quantize_output_tensor, bool pure,
           const std::vector<std::pair<std::string, std::string>> & tensor_types,
           const std::vector<std::pair<std::string, int64_t>> & imatrix) {
            const GilReleased release;
            quantize_file(
                in, out,
                {ftype, output_tensor_type, token_embedding_type, quantize_output_tensor, pure, tensor_types, imatrix});
        },
        "src"_a, "dst"_a, nb::kw_only(), "ftype"_a, "output_tensor_type"_a = "", "token_embedding_type"_a = "",
        "quantize_output_tensor"_a = true, "pure"_a = false,
        "tensor_types"_a = std::vector<std::pair<std::string, std::string>>(),
        "imatrix"_a = std::vector<std::pair<std::string, int64_t>>(),
        "Quantize a GGUF file as libllama does (`native/weights/quantize_file.h`). Raises RuntimeError with its "
        "reason, ValueError for an unknown type.");
    m.def(
        "requires_imatrix",
        [](const std::string & type) { return ggml_quantize_requires_imatrix(encode_type_from_name(type)); }, "type"_a,
        "Whether ggml cannot quantize to the type without an importance matrix.");
}
