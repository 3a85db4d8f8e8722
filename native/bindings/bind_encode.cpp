// Python binding of weights/encode.h: pytrimode._native.encode.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <optional>

#include "bindings/gil.h"
#include "weights/encode.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

// Any object with a contiguous buffer (bytes, a memory map, a numpy array), released on every path.
class BufferView {
  public:
    explicit BufferView(nb::handle object) {
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) {
            throw nb::python_error();
        }
    }
    ~BufferView() { PyBuffer_Release(&view_); }
    BufferView(const BufferView &) = delete;
    BufferView & operator=(const BufferView &) = delete;

    const void * data() const { return view_.buf; }
    size_t size() const { return static_cast<size_t>(view_.len); }

  private:
    Py_buffer view_;
};

int64_t number_of_rows(const BufferView & view, ggml_type type, int64_t n_cols) {
    const size_t row_bytes = n_cols > 0 ? ggml_row_size(type, n_cols) : 0;
    if (row_bytes == 0 || view.size() % row_bytes != 0) {
        throw std::invalid_argument(std::to_string(view.size()) + " bytes are not whole rows of " +
                                    std::to_string(n_cols) + " elements of type " + ggml_type_name(type));
    }
    return static_cast<int64_t>(view.size() / row_bytes);
}

nb::object encode(nb::object src, const std::string & src_type, const std::string & dst_type, int64_t n_cols,
                  int n_threads, nb::object imatrix) {
    const BufferView view(src);
    EncodeJob job{};
    job.src = view.data();
    job.src_type = encode_type_from_name(src_type);
    job.dst_type = encode_type_from_name(dst_type);
    job.n_cols = n_cols;
    std::optional<BufferView> importance;
    if (!imatrix.is_none()) {
        importance.emplace(imatrix);
        if (importance->size() != n_cols * sizeof(float)) {
            throw std::invalid_argument("an importance matrix of " +
                                        std::to_string(importance->size() / sizeof(float)) + " values for rows of " +
                                        std::to_string(n_cols));
        }
        job.imatrix = static_cast<const float *>(importance->data());
    }
    job.n_rows = number_of_rows(view, job.src_type, n_cols);
    nb::object result = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(encode_size(job))));
    if (!result.is_valid()) {
        throw nb::python_error();
    }
    char * dst = PyBytes_AsString(result.ptr());
    {
        const GilReleased release;
        encode_rows(job, dst, n_threads);
    }
    return result;
}

}  // namespace

void bind_encode(nb::module_ & m) {
    nb::register_exception_translator([](const std::exception_ptr & p, void *) {
        try {
            std::rethrow_exception(p);
        } catch (const EncodeError & e) {
            PyErr_SetString(PyExc_ValueError, e.what());
        }
    });
    m.def(
        "encode", &encode, "src"_a, "src_type"_a, "dst_type"_a, "n_cols"_a, "n_threads"_a, "imatrix"_a = nb::none(),
        nb::sig("def encode(src: object, src_type: str, dst_type: str, n_cols: int, n_threads: int, "
                "imatrix: object | None = None) -> bytes"),
        "Encode rows of weights with ggml's own quantizers.\n\n"
        "`src`: a contiguous buffer of rows of n_cols elements of src_type. `imatrix`: the importance of each column, "
        "n_cols float32. `n_threads` 0: all cores.\n\n"
        "Raises ValueError with the element's index for NaN or infinite weights and for weights too large for "
        "dst_type, and for types and row lengths that do not go together.");
}
