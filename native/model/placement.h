// Gives new tensors memory on the device where a given weight lives.
#pragma once

#include <map>
#include <vector>

#include "ggml-cpp.h"

namespace trimode {

class Placement {
  public:
    // no_alloc: nothing is allocated, tensors only learn where they would be.
    explicit Placement(bool no_alloc = false) : no_alloc_(no_alloc) {}

    // `tensor` shall live on the device that holds `weight`.
    void add(ggml_tensor * tensor, const ggml_tensor * weight);

    // Zeroed. As few buffers as the device's largest one allows. Throws std::runtime_error when a
    // device has no room.
    std::vector<ggml_backend_buffer_ptr> allocate();

    // Of all buffers together, allocated or not.
    size_t bytes() const;

  private:
    void place(const std::vector<ggml_tensor *> & tensors, ggml_backend_buffer_t buffer) const;

    bool no_alloc_;
    std::map<ggml_backend_buffer_type_t, std::vector<ggml_tensor *>> by_type_;
};

// The device of a loaded tensor; nullptr stands for the CPU.
ggml_backend_dev_t device_of(const ggml_tensor * tensor);

// ggml's scheduler ends the process where a tensor has its place and no backend can use it there: one layer's cache
// that is larger than a device addresses, or of a type that it cannot write. Throws std::runtime_error in its stead.
void check_usable(ggml_cgraph * graph, const std::vector<ggml_backend_t> & backends);

}  // namespace trimode
