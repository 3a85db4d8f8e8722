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

std::string shown(float value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%g", (double)value);
    return text;
}

bool is_finite(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return (bits & F32_EXPONENT) != F32_EXPONENT;
}

// Branch-free over the row so that it vectorizes; the position is looked for only when there is one.
bool all_finite(const float * x, int64_t n) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        std::memcpy(&bits, x + i, sizeof(bits));
        bad |= (uint32_t)((bits & F32_EXPONENT) == F32_EXPONENT);
    }
    return bad == 0;
}

const float * to_f32(const encode_job & job, int64_t first, int64_t n, std::vector<float> & scratch) {
    const char * src = (const char *)job.src + ggml_row_size(job.src_type, first);
    if (job.src_type == GGML_TYPE_F32 && (uintptr_t)src % alignof(float) == 0) {
        return (const float *)src;
    }
    scratch.resize(n);
    if (job.src_type == GGML_TYPE_F32) {
        std::memcpy(scratch.data(), src, n * sizeof(float));
        return scratch.data();
    }
    if (ggml_is_quantized(job.src_type)) {
        ggml_get_type_traits(job.src_type)->to_float(src, scratch.data(), n);
        return scratch.data();
    }
    // A safetensors file only promises byte alignment.
    std::vector<uint16_t> aligned;
    const uint16_t * halves = (const uint16_t *)src;
    if ((uintptr_t)src % alignof(uint16_t) != 0) {
        aligned.resize(n);
        std::memcpy(aligned.data(), src, n * sizeof(uint16_t));
        halves = aligned.data();
    }
    if (job.src_type == GGML_TYPE_F16) {
        ggml_fp16_to_fp32_row((const ggml_fp16_t *)halves, scratch.data(), n);
    } else {
        ggml_bf16_to_fp32_row((const ggml_bf16_t *)halves, scratch.data(), n);
    }
    return scratch.data();
}

bool is_float(ggml_type type) { return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16; }

// ggml knows quantized types that only its kernels use, for activations.
bool can_quantize_to(ggml_type type) {
    return ggml_is_quantized(type) && type != GGML_TYPE_Q8_1 && type != GGML_TYPE_Q8_K;
}

bool has_infinite_f16(const ggml_fp16_t * x, int64_t n) {
    uint16_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        bad |= (uint16_t)((x[i] & 0x7c00) == 0x7c00);
    }
    return bad != 0;
}

float max_abs(const float * x, int64_t n) {
    float top = 0;
    for (int64_t i = 0; i < n; i++) {
        top = std::max(top, std::abs(x[i]));
    }
    return top;
}

// Whether the type could represent the values. What is too large shows as an infinite scale or value in the result,
// but in Q6_K as zeros: its search for scales sums up powers of the values. Its largest value is 65504 * 128 * 32.
bool fits(const encode_job & job, const float * src, const void * dst, int64_t n_rows) {
    const int64_t n = n_rows * job.n_cols;
    switch (job.dst_type) {
        case GGML_TYPE_F32:
        case GGML_TYPE_BF16:
            return true;
        case GGML_TYPE_F16:
            return !has_infinite_f16((const ggml_fp16_t *)dst, n);
        case GGML_TYPE_Q6_K:
            return max_abs(src, n) <= 65504.0f * 128 * 32;
        default:
            return ggml_validate_row_data(job.dst_type, dst, n_rows * ggml_row_size(job.dst_type, job.n_cols));
    }
}

struct failure {
    std::mutex mutex;
    std::atomic<bool> found{false};
    int64_t element = -1;
    std::string message;
    std::exception_ptr exception;

    void record(int64_t at, const std::string & what) {
        std::lock_guard<std::mutex> lock(mutex);
        if (element < 0 || at < element) {
            element = at;
            message = what;
        }
        found = true;
    }
};

void encode_group(const encode_job & job, int64_t row, int64_t n_rows, char * dst, std::vector<float> & scratch,
                  failure & fail) {
    const int64_t first = row * job.n_cols;
    const int64_t n = n_rows * job.n_cols;
    const float * x = to_f32(job, first, n, scratch);
    if (!all_finite(x, n)) {
        const float * bad = std::find_if(x, x + n, [](float value) { return !is_finite(value); });
        const int64_t at = first + (bad - x);
        fail.record(at, "element " + std::to_string(at) + " is " + shown(*bad));
        return;
    }
    char * out = dst + row * ggml_row_size(job.dst_type, job.n_cols);
    ggml_quantize_chunk(job.dst_type, x, out, 0, n_rows, job.n_cols, job.imatrix);
    if (!fits(job, x, out, n_rows)) {
        const float * top = std::max_element(x, x + n, [](float a, float b) { return std::abs(a) < std::abs(b); });
        const int64_t at = first + (top - x);
        fail.record(at, "element " + std::to_string(at) + " is " + shown(*top) + ", too large for " +
                            ggml_type_name(job.dst_type));
    }
}

}  // namespace

ggml_type encode_type_from_name(const std::string & name) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return (char)std::tolower(c); });
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * known = ggml_type_name((ggml_type)i);
        if (known && ggml_blck_size((ggml_type)i) > 0) {
            std::string candidate = known;
            std::transform(candidate.begin(), candidate.end(), candidate.begin(),
                           [](unsigned char c) { return (char)std::tolower(c); });
            if (candidate == lower) {
                return (ggml_type)i;
            }
        }
    }
    throw std::invalid_argument("unknown ggml type '" + name + "'");
}

size_t encode_size(const encode_job & job) {
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

void encode_rows(const encode_job & job, void * dst, int n_threads) {
    encode_size(job);
    const int64_t rows_per_group = std::max<int64_t>(1, ELEMENTS_PER_GROUP / job.n_cols);
    const int64_t n_groups = (job.n_rows + rows_per_group - 1) / rows_per_group;
    if (n_threads <= 0) {
        n_threads = std::max(1u, std::thread::hardware_concurrency());
    }
    n_threads = (int)std::min<int64_t>(n_threads, n_groups);

    ggml_quantize_init(job.dst_type);
    failure fail;
    std::atomic<int64_t> next{0};
    auto work = [&]() {
        try {
            std::vector<float> scratch;
            // Groups are taken in order, so every group before a failed one is finished too: the first failure is
            // known.
            for (int64_t group = next++; group < n_groups && !fail.found; group = next++) {
                const int64_t row = group * rows_per_group;
                encode_group(job, row, std::min(rows_per_group, job.n_rows - row), (char *)dst, scratch, fail);
            }
        } catch (...) {
            std::lock_guard<std::mutex> lock(fail.mutex);
            fail.exception = std::current_exception();
            fail.found = true;
        }
    };
    std::vector<std::thread> threads;
    for (int i = 1; i < n_threads; i++) {
        threads.emplace_back(work);
    }
    work();
    for (std::thread & thread : threads) {
        thread.join();
    }
    if (fail.exception) {
        std::rethrow_exception(fail.exception);
    }
    if (fail.found) {
        throw encode_error(fail.message);
    }
}

}  // namespace trimode
