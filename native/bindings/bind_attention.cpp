// Python binding of attention/ by itself, and of ggml's over the same cells: for tests and benchmarks/attention.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <tuple>

#include "attention/attention.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "weights/encode.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace trimode {

namespace {

using FloatArray = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<nb::numpy, float, nb::ndim<3>>;
using RowTuple = std::tuple<int, int, int, int>;  // sequence, seen, begin, end

const AttentionKernel & kernel_named(const std::string & name) {
    for (const AttentionKernel * kernel : attention_kernels()) {
        if (name.empty() || name == kernel->name) {
            return *kernel;
        }
    }
    throw std::invalid_argument("attention kernel \"" + name + "\": this machine has none of that name");
}

ggml_backend_t new_cpu(int n_threads) {
    ggml_backend_t cpu = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu));
    reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads"))(cpu, n_threads);
    return cpu;
}

// The cells of one layer, and passes over them.
class AttentionProbe {
  public:
    AttentionProbe(nb::bytes k, nb::bytes v, const std::string & type_k, const std::string & type_v, int n_head,
                   int n_head_kv, int head_dim, int n_threads, const std::string & kernel)
        : shape_{n_head, n_head_kv, head_dim, 1},
          attention_(shape_, n_threads, kernel_named(kernel)),
          cpu_(new_cpu(n_threads)),
          context_(ggml_init({2 * ggml_tensor_overhead(), nullptr, /*no_alloc=*/true})) {
        const int64_t width = int64_t(n_head_kv) * head_dim;
        const size_t cell = ggml_row_size(encode_type_from_name(type_k), width);
        const int64_t n_cells = k.size() / cell;
        k_ = ggml_new_tensor_2d(context_.get(), encode_type_from_name(type_k), width, n_cells);
        v_ = ggml_new_tensor_2d(context_.get(), encode_type_from_name(type_v), width, n_cells);
        if (ggml_nbytes(k_) != k.size() || ggml_nbytes(v_) != v.size()) {
            throw std::invalid_argument("k and v must be whole cells, as many of each");
        }
        buffer_.reset(ggml_backend_alloc_ctx_tensors(context_.get(), cpu_.get()));
        ggml_backend_tensor_set(k_, k.data(), 0, k.size());
        ggml_backend_tensor_set(v_, v.data(), 0, v.size());
    }

    Result run(FloatArray q, const std::vector<std::vector<int>> & pages, const std::vector<RowTuple> & rows) {
        check(q, rows.size());
        std::vector<AttentionRow> views;
        for (const auto & [sequence, seen, begin, end] : rows) {
            const auto & its = pages.at(sequence);
            for (const int page : its) {
                if (page < 0 || (page + 1) * BLOCK > k_->ne[1]) {
                    throw std::invalid_argument("page " + std::to_string(page) + " is not one of " +
                                                std::to_string(k_->ne[1] / BLOCK));
                }
            }
            if (std::max(seen, end) > static_cast<int>(its.size()) * BLOCK || std::max(seen, end) < 1) {
                throw std::invalid_argument("a row must see some cells of its sequence's pages");
            }
            views.push_back({its.data(), {seen, begin, end}});
        }
        return compute(q, [&](ggml_context * c, ggml_tensor * input) {
            attention_.prepare(views);
            return attention_.build(c, input, k_, v_, 0);
        });
    }

    // ggml's, of rows that see the first `seen` cells each.
    Result run_ggml(FloatArray q, const std::vector<int> & seen, bool flash) {
        check(q, seen.size());
        const int64_t n = k_->ne[1];
        if (std::any_of(seen.begin(), seen.end(), [&](int count) { return count < 1 || count > n; })) {
            throw std::invalid_argument("a row must see 1 to " + std::to_string(n) + " cells");
        }
        if (!flash && (ggml_is_quantized(k_->type) || ggml_is_quantized(v_->type))) {
            throw std::invalid_argument("products of matrices need a cache that is not quantized");
        }
        mask_.assign(seen.size() * n, -INFINITY);
        for (size_t i = 0; i < seen.size(); ++i) {
            std::fill_n(mask_.begin() + i * n, seen[i], 0.0f);
        }
        return compute(q, [&](ggml_context * c, ggml_tensor * input) {
            ggml_tensor * mask = ggml_new_tensor_2d(c, GGML_TYPE_F32, n, seen.size());
            masks_ = {mask, flash ? ggml_cast(c, mask, GGML_TYPE_F16) : nullptr};
            return flash ? flash_attention(c, input) : products(c, input);
        });
    }

    double seconds() const { return seconds_; }

  private:
    void check(const FloatArray & q, size_t n_rows) const {
        if (q.shape(0) != n_rows || int(q.shape(1)) != shape_.n_head || int(q.shape(2)) != shape_.head_dim) {
            throw std::invalid_argument("q must be [rows, n_head, head_dim]");
        }
    }

    ggml_tensor * heads(ggml_context * c, ggml_tensor * t) const {
        return ggml_permute(c,
                            ggml_view_3d(c, t, shape_.head_dim, shape_.n_head_kv, t->ne[1],
                                         ggml_row_size(t->type, shape_.head_dim), t->nb[1], 0),
                            0, 2, 1, 3);
    }

    float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

    ggml_tensor * flash_attention(ggml_context * c, ggml_tensor * q) const {
        ggml_tensor * out = ggml_flash_attn_ext(c, ggml_permute(c, q, 0, 2, 1, 3), heads(c, k_), heads(c, v_),
                                                masks_.second, scale(), 0.0f, 0.0f);
        ggml_prec_set_acc(out, GGML_PREC_F32);
        return out;
    }

    // With V transposed beforehand, as llama.cpp stores it then.
    ggml_tensor * products(ggml_context * c, ggml_tensor * q) const {
        ggml_tensor * scores = ggml_mul_mat(c, heads(c, k_), ggml_permute(c, q, 0, 2, 1, 3));
        scores = ggml_soft_max_ext(c, scores, masks_.first, scale(), 0.0f);
        ggml_tensor * transposed =
            ggml_view_3d(c, v_, v_->ne[1], shape_.head_dim, shape_.n_head_kv, v_->ne[1] * ggml_element_size(v_),
                         v_->ne[1] * shape_.head_dim * ggml_element_size(v_), 0);
        return ggml_cont(c, ggml_permute(c, ggml_mul_mat(c, transposed, scores), 0, 2, 1, 3));
    }

    template <typename Build>
    Result compute(const FloatArray & q, Build build) {
        ggml_context_ptr context(ggml_init({32 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
        ggml_tensor * input =
            ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, shape_.head_dim, shape_.n_head, q.shape(0));
        masks_ = {};
        ggml_tensor * out = build(context.get(), input);
        ggml_cgraph * graph = ggml_new_graph(context.get());
        ggml_build_forward_expand(graph, out);
        ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(context.get(), cpu_.get()));
        ggml_backend_tensor_set(input, q.data(), 0, ggml_nbytes(input));
        if (masks_.first) {
            ggml_backend_tensor_set(masks_.first, mask_.data(), 0, ggml_nbytes(masks_.first));
        }
        const auto start = std::chrono::steady_clock::now();
        ggml_backend_graph_compute(cpu_.get(), graph);
        seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        auto * result = new std::vector<float>(ggml_nelements(out));
        ggml_backend_tensor_get(out, result->data(), 0, ggml_nbytes(out));
        nb::capsule owner(result, [](void * p) noexcept { delete static_cast<std::vector<float> *>(p); });
        return Result(result->data(), {q.shape(0), q.shape(1), q.shape(2)}, owner);
    }

    AttentionShape shape_;
    Attention attention_;
    ggml_backend_ptr cpu_;
    ggml_context_ptr context_;
    ggml_backend_buffer_ptr buffer_;
    ggml_tensor *k_ = nullptr, *v_ = nullptr;
    std::pair<ggml_tensor *, ggml_tensor *> masks_;  // F32, F16
    std::vector<float> mask_;
    double seconds_ = 0.0;
};

}  // namespace

}  // namespace trimode

void bind_attention(nb::module_ & m) {
    using namespace trimode;
    m.def(
        "attention_kernels",
        [] {
            std::vector<std::string> names;
            for (const AttentionKernel * kernel : attention_kernels()) {
                names.emplace_back(kernel->name);
            }
            return names;
        },
        "List the instruction sets of the CPU's attention that this machine has, the fastest first.");
    m.def(
        "attention_kernel", [] { return std::string(attention_kernel().name); },
        "Return the one in use: the fastest, or the one that $PYTRIMODE_ATTENTION names. Raises RuntimeError for "
        "another name.");
    nb::class_<AttentionProbe>(m, "AttentionProbe",
                               "One layer's keys and values, and attention over them: `native/attention/`, and ggml's "
                               "to compare with.")
        .def(nb::init<nb::bytes, nb::bytes, const std::string &, const std::string &, int, int, int, int,
                      const std::string &>(),
             "k"_a, "v"_a, nb::kw_only(), "type_k"_a, "type_v"_a, "n_head"_a, "n_head_kv"_a, "head_dim"_a,
             "n_threads"_a = 1, "kernel"_a = "",
             "`k`, `v`: cells of n_head_kv * head_dim values in their type. `kernel`: one of `attention_kernels()`.\n\n"
             "Raises ValueError for a kernel that is not there and for `k` and `v` of different numbers of cells.")
        .def("run", &AttentionProbe::run, "q"_a, "pages"_a, "rows"_a,
             "Attention of q [rows, n_head, head_dim]; the result has its shape.\n\n"
             "`pages`: of each sequence, pages of 64 cells. `rows`: which sequence a row belongs to, and that it sees "
             "the cells [0, seen) and [begin, end) of it. Rows of a sequence stand together.")
        .def("run_ggml", &AttentionProbe::run_ggml, "q"_a, "seen"_a, nb::kw_only(), "flash"_a = true,
             "ggml's, of rows that see the first `seen` cells each. `flash=False`: by products, with V taken as if it "
             "had been stored transposed, as llama.cpp does then: the values are others, the work is the same.")
        .def_prop_ro("seconds", &AttentionProbe::seconds, "What the last run took.");
}
