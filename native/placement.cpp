#include "placement.h"

#include <stdexcept>
#include <string>

#include "ggml-alloc.h"
#include "ggml-cpu.h"

namespace trimode {

ggml_backend_dev_t device_of(const ggml_tensor * tensor) {
    ggml_backend_dev_t device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(tensor->buffer));
    const bool cpu = !device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU ||
                     ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_ACCEL;
    return cpu ? nullptr : device;
}

void Placement::add(ggml_tensor * tensor, const ggml_tensor * weight) {
    ggml_backend_dev_t device = device_of(weight);
    by_type_[device ? ggml_backend_dev_buffer_type(device) : ggml_backend_cpu_buffer_type()].push_back(tensor);
}

namespace {

size_t padded_bytes(ggml_backend_buffer_type_t type, const std::vector<ggml_tensor *> & tensors) {
    const size_t alignment = ggml_backend_buft_get_alignment(type);
    size_t size = 0;
    for (const ggml_tensor * t : tensors) {
        size += GGML_PAD(ggml_backend_buft_get_alloc_size(type, t), alignment);
    }
    return size;
}

}  // namespace

size_t Placement::bytes() const {
    size_t total = 0;
    for (const auto & [type, tensors] : by_type_) {
        total += padded_bytes(type, tensors);
    }
    return total;
}

std::vector<ggml_backend_buffer_t> Placement::allocate() {
    std::vector<ggml_backend_buffer_t> buffers;
    for (auto & [type, tensors] : by_type_) {
        const size_t size = no_alloc_ ? 0 : padded_bytes(type, tensors);
        ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(type, size);
        if (!buffer) {
            for (ggml_backend_buffer_t b : buffers) {
                ggml_backend_buffer_free(b);
            }
            throw std::runtime_error(std::string("out of memory: ") + ggml_backend_buft_name(type) +
                                     " has no room for " + std::to_string(size >> 20) +
                                     " MiB; use a smaller context (-c) or fewer layers on the GPU (-ngl)");
        }
        if (no_alloc_) {
            for (ggml_tensor * t : tensors) {
                t->buffer = buffer;
            }
            buffers.push_back(buffer);
            continue;
        }
        ggml_backend_buffer_clear(buffer, 0);  // masked cells must be finite
        ggml_tallocr alloc = ggml_tallocr_new(buffer);
        for (ggml_tensor * t : tensors) {
            ggml_tallocr_alloc(&alloc, t);
        }
        buffers.push_back(buffer);
    }
    return buffers;
}

}  // namespace trimode
