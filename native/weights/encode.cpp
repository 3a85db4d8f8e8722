#include "weights/encode.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace trimode {

namespace {

// Elements a thread takes at a time: small enough for its F32 copy to stay in the cache.
constexpr int64_t ELEMENTS_PER_GROUP = 64 * 1024;

constexpr uint32_t F32_EXPONENT = 0x7f800000;
constexpr uint16_t F16_EXPONENT = 0x7c00;

std::string shown(float value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%g", static_cast<double>(value));
    return text;
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

bool is_finite(float value) { return (bits_of(value) & F32_EXPONENT) != F32_EXPONENT; }

// Branch-free over the row so that it vectorizes; the position is looked for only when there is one.
bool all_finite(const float * x, int64_t n) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; ++i) {
        bad |= static_cast<uint32_t>(!is_finite(x[i]));
    }
    return bad == 0;
}

bool has_infinite_f16(const ggml_fp16_t * x, int64_t n) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; ++i) {
        bad |= static_cast<uint32_t>((x[i] & F16_EXPONENT) == F16_EXPONENT);
    }
    return bad != 0;
}

float max_abs(const float * x, int64_t n) {
    float top = 0.0f;
    for (int64_t i = 0; i < n; ++i) {
        top = std::max(top, std::abs(x[i]));
    }
    return top;
}

template <typename T>
bool is_aligned(const void * p) {
    return reinterpret_cast<uintptr_t>(p) % alignof(T) == 0;
}

bool is_float(ggml_type type) { return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16; }

// ggml knows quantized types that only its kernels use, for activations.
bool can_quantize_to(ggml_type type) {
    return ggml_is_quantized(type) && type != GGML_TYPE_Q8_1 && type != GGML_TYPE_Q8_K;
}

// `n` elements from `first` on as floats, in place where they are floats, else in `scratch`.
const float * to_f32(const EncodeJob & job, int64_t first, int64_t n, std::vector<float> & scratch) {
    const char * src = static_cast<const char *>(job.src) + ggml_row_size(job.src_type, first);
    if (job.src_type == GGML_TYPE_F32 && is_aligned<float>(src)) {
        return reinterpret_cast<const float *>(src);
    }
    scratch.resize(n);
    if (job.src_type == GGML_TYPE_F32) {
        std::memcpy(scratch.data(), src, n * sizeof(float));
        return scratch.data();
    }
    std::vector<uint16_t> aligned;
    if (!ggml_is_quantized(job.src_type) && !is_aligned<uint16_t>(src)) {  // safetensors promises byte alignment only
        aligned.resize(n);
        std::memcpy(aligned.data(), src, n * sizeof(uint16_t));
        src = reinterpret_cast<const char *>(aligned.data());
    }
    if (job.src_type == GGML_TYPE_F16) {
        ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t *>(src), scratch.data(), n);
    } else if (job.src_type == GGML_TYPE_BF16) {
        ggml_bf16_to_fp32_row(reinterpret_cast<const ggml_bf16_t *>(src), scratch.data(), n);
    } else {
        ggml_get_type_traits(job.src_type)->to_float(src, scratch.data(), n);
    }
    return scratch.data();
}

// Whether the type could represent the values. What is too large shows as an infinite scale or value in the result,
// but in Q6_K as zeros: its search for scales sums up powers of the values. Its largest value is 65504 * 128 * 32.
bool fits(const EncodeJob & job, const float * src, const void * dst, int64_t n_rows) {
    const int64_t n = n_rows * job.n_cols;
    switch (job.dst_type) {
        case GGML_TYPE_F32:
        case GGML_TYPE_BF16:
            return true;
        case GGML_TYPE_F16:
            return !has_infinite_f16(static_cast<const ggml_fp16_t *>(dst), n);
        case GGML_TYPE_Q6_K:
            return max_abs(src, n) <= 65504.0f * 128 * 32;
        default:
            return ggml_validate_row_data(job.dst_type, dst, n_rows * ggml_row_size(job.dst_type, job.n_cols));
    }
}

// The first element that cannot be encoded, of all that threads have found.
class Failure {
  public:
    bool found() const { return found_; }

    void record(int64_t element, const std::string & what) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (element_ < 0 || element < element_) {
            element_ = element;
            message_ = "element " + std::to_string(element) + " is " + what;
        }
        found_ = true;
    }

    void record(std::exception_ptr exception) {
        const std::lock_guard<std::mutex> lock(mutex_);
        exception_ = std::move(exception);
        found_ = true;
    }

    void rethrow() const {
        if (exception_) {
            std::rethrow_exception(exception_);
        }
        if (found_) {
            throw EncodeError(message_);
        }
    }

  private:
    std::mutex mutex_;
    std::atomic<bool> found_{false};
    int64_t element_ = -1;
    std::string message_;
    std::exception_ptr exception_;
};

// The rows of a job in groups, which threads take one after the other.
class Encoder {
  public:
    Encoder(const EncodeJob & job, void * dst)
        : job_(job),
          dst_(static_cast<char *>(dst)),
          rows_per_group_(std::max<int64_t>(1, ELEMENTS_PER_GROUP / job.n_cols)),
          n_groups_((job.n_rows + rows_per_group_ - 1) / rows_per_group_) {}

    // Throws EncodeError.
    void run(int n_threads) {
        if (n_threads <= 0) {
            n_threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
        }
        std::vector<std::thread> others;
        for (int64_t i = 1; i < std::min<int64_t>(n_threads, n_groups_); ++i) {
            others.emplace_back([this] { work(); });
        }
        work();
        for (std::thread & thread : others) {
            thread.join();
        }
        failure_.rethrow();
    }

  private:
    // Groups are taken in order, so every group before a failed one is finished too: the first failure is known.
    void work() {
        try {
            std::vector<float> scratch;
            for (int64_t group = next_++; group < n_groups_ && !failure_.found(); group = next_++) {
                const int64_t row = group * rows_per_group_;
                encode(row, std::min(rows_per_group_, job_.n_rows - row), scratch);
            }
        } catch (...) {
            failure_.record(std::current_exception());
        }
    }

    void encode(int64_t row, int64_t n_rows, std::vector<float> & scratch) {
        const int64_t first = row * job_.n_cols;
        const int64_t n = n_rows * job_.n_cols;
        const float * x = to_f32(job_, first, n, scratch);
        if (!all_finite(x, n)) {
            const float * bad = std::find_if(x, x + n, [](float value) { return !is_finite(value); });
            failure_.record(first + (bad - x), shown(*bad));
            return;
        }
        char * out = dst_ + row * ggml_row_size(job_.dst_type, job_.n_cols);
        ggml_quantize_chunk(job_.dst_type, x, out, 0, n_rows, job_.n_cols, job_.imatrix);
        if (!fits(job_, x, out, n_rows)) {
            const float * top = std::max_element(x, x + n, [](float a, float b) { return std::abs(a) < std::abs(b); });
            failure_.record(first + (top - x), shown(*top) + ", too large for " + ggml_type_name(job_.dst_type));
        }
    }

    const EncodeJob & job_;
    char * dst_;
    int64_t rows_per_group_;
    int64_t n_groups_;
    std::atomic<int64_t> next_{0};
    Failure failure_;
};

}  // namespace

ggml_type encode_type_from_name(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
        const auto type = static_cast<ggml_type>(i);
        const char * known = ggml_type_name(type);
        if (known && ggml_blck_size(type) > 0 && lower(known) == lower(name)) {
            return type;
        }
    }
    throw std::invalid_argument("unknown ggml type '" + name + "'");
}

size_t encode_size(const EncodeJob & job) {
    if (!is_float(job.src_type) &&
        (!ggml_is_quantized(job.src_type) || !ggml_get_type_traits(job.src_type)->to_float)) {
        throw std::invalid_argument(std::string("cannot encode from ") + ggml_type_name(job.src_type));
    }
    if (!is_float(job.dst_type) && !can_quantize_to(job.dst_type)) {
        throw std::invalid_argument(std::string("cannot encode to ") + ggml_type_name(job.dst_type));
    }
    if (!job.imatrix && ggml_quantize_requires_imatrix(job.dst_type)) {
        throw std::invalid_argument(std::string(ggml_type_name(job.dst_type)) + " needs an importance matrix");
    }
    for (const ggml_type type : {job.src_type, job.dst_type}) {
        const int64_t block = ggml_blck_size(type);
        if (job.n_cols <= 0 || job.n_cols % block != 0) {
            throw std::invalid_argument("rows of " + std::to_string(job.n_cols) +
                                        " elements do not divide into blocks of " + std::to_string(block) + " (" +
                                        ggml_type_name(type) + ")");
        }
    }
    return job.n_rows * ggml_row_size(job.dst_type, job.n_cols);
}

void encode_rows(const EncodeJob & job, void * dst, int n_threads) {
    encode_size(job);
    ggml_quantize_init(job.dst_type);
    Encoder(job, dst).run(n_threads);
}

}  // namespace trimode
