// Memory that the system is not to swap out.
#pragma once

#include <cstddef>

namespace trimode {

// Keeps it in main memory until it is freed. Throws std::runtime_error that names the limit, where the system refuses.
void lock_memory(const void * data, size_t size);

}  // namespace trimode
