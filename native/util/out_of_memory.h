// Memory that a device or the machine does not have.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace trimode {

struct OutOfMemory : std::runtime_error {
    // `what` has no room; `advice`: what would help.
    OutOfMemory(const std::string & what, const std::string & advice)
        : std::runtime_error("out of memory: " + what + "; " + advice) {}
};

// What helps where weights, cache and compute buffers share a device.
inline constexpr const char * USE_LESS = "use a smaller context (-c) or batch, or fewer layers on the GPU (-ngl)";

inline std::string mebibytes(size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace trimode
