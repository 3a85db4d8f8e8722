#include "model/placement.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "ggml-alloc.h"
#include "ggml-cpu.h"
#include "util/out_of_memory.h"

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

// In buffers that the device can give in one piece; a single tensor that is larger has one of its own, to be refused.
std::vector<std::vector<ggml_tensor *>> parts(ggml_backend_buffer_type_t type,
                                              const std::vector<ggml_tensor *> & tensors) {
    std::vector<std::vector<ggml_tensor *>> found;
    size_t room = 0;
    for (ggml_tensor * t : tensors) {
        const size_t size = padded_bytes(type, {t});
        if (found.empty() || size > room) {
            found.emplace_back();
            room = ggml_backend_buft_get_max_size(type);
        }
        found.back().push_back(t);
        room -= std::min(size, room);
    }
    return found;
}

}  // namespace

size_t Placement::bytes() const {
    size_t total = 0;
    for (const auto & [type, tensors] : by_type_) {
        total += padded_bytes(type, tensors);
    }
    return total;
}

std::vector<ggml_backend_buffer_ptr> Placement::allocate() {
    std::vector<ggml_backend_buffer_ptr> buffers;
    for (const auto & [type, all] : by_type_) {
        for (const std::vector<ggml_tensor *> & tensors : parts(type, all)) {
            const size_t size = no_alloc_ ? 0 : padded_bytes(type, tensors);
            ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(type, size));
            if (!buffer) {
                throw OutOfMemory(ggml_backend_buft_name(type) + (" has no room for " + mebibytes(size)), USE_LESS);
            }
            place(tensors, buffer.get());
            buffers.push_back(std::move(buffer));
        }
    }
    return buffers;
}

void Placement::place(const std::vector<ggml_tensor *> & tensors, ggml_backend_buffer_t buffer) const {
    if (no_alloc_) {
        for (ggml_tensor * t : tensors) {
            t->buffer = buffer;
        }
        return;
    }
    ggml_backend_buffer_clear(buffer, 0);  // masked cells must be finite
    ggml_tallocr alloc = ggml_tallocr_new(buffer);
    for (ggml_tensor * t : tensors) {
        ggml_tallocr_alloc(&alloc, t);
    }
}

void check_usable(ggml_cgraph * graph, const std::vector<ggml_backend_t> & backends) {
    const auto check = [&](const ggml_tensor * t) {
        const ggml_backend_buffer_t buffer = t->view_src ? t->view_src->buffer : t->buffer;
        const auto takes = [&](ggml_backend_t backend) {
            return ggml_backend_supports_buft(backend, ggml_backend_buffer_get_type(buffer)) &&
                   ggml_backend_supports_op(backend, t);
        };
        if (!buffer || std::any_of(backends.begin(), backends.end(), takes)) {
            return;
        }
        const std::string device = ggml_backend_buffer_name(buffer);
        if (t->op == GGML_OP_SET_ROWS) {
            throw std::runtime_error(device + " cannot write a cache of type " + ggml_type_name(t->type) +
                                     "; use another type (-ctk, -ctv) or -ngl 0");
        }
        throw OutOfMemory("a tensor of " + mebibytes(ggml_nbytes(t)) + " is more than " + device + " takes as one",
                          USE_LESS);
    };
    for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
        const ggml_tensor * node = ggml_graph_node(graph, i);
        for (const ggml_tensor * source : node->src) {  // first: what is too large cannot be written either
            if (source) {
                check(source);
            }
        }
        check(node);
    }
}

}  // namespace trimode
