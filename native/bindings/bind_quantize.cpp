// Python bindings of what quantization needs of libllama: pytrimode._native.quantized_types, requires_imatrix.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/gil.h"
#include "weights/encode.h"
#include "weights/quantized_types.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

void bind_quantize(nb::module_ & m) {
    m.def(
        "quantized_types",
        [](const std::string & path, int ftype, const std::string & output_tensor_type,
           const std::string & token_embedding_type, bool quantize_output_tensor, bool pure,
           const std::vector<std::pair<std::string, std::string>> & tensor_types,
           const std::vector<std::pair<std::string, int64_t>> & imatrix) {
            const GilReleased release;
            return quantized_types(path, {ftype, output_tensor_type, token_embedding_type, quantize_output_tensor, pure,
                                          tensor_types, imatrix});
        },
        "path"_a, nb::kw_only(), "ftype"_a, "output_tensor_type"_a = "", "token_embedding_type"_a = "",
        "quantize_output_tensor"_a = true, "pure"_a = false,
        "tensor_types"_a = std::vector<std::pair<std::string, std::string>>(),
        "imatrix"_a = std::vector<std::pair<std::string, int64_t>>(),
        "List name and ggml type of each tensor of a GGUF file, as libllama would quantize it "
        "(`native/weights/quantized_types.h`). Raises RuntimeError with its reason, ValueError for an unknown type.");
    m.def(
        "requires_imatrix",
        [](const std::string & type) { return ggml_quantize_requires_imatrix(encode_type_from_name(type)); }, "type"_a,
        "Whether ggml cannot quantize to the type without an importance matrix.");
}
