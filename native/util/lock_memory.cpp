#include "util/lock_memory.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include "util/out_of_memory.h"

#if defined(__linux__) || defined(__APPLE__)
#include <sys/mman.h>
#include <sys/resource.h>
#endif

namespace trimode {

void lock_memory(const void * data, size_t size) {
#if defined(__linux__) || defined(__APPLE__)
    if (size == 0 || mlock(data, size) == 0) {
        return;
    }
    const std::string reason = std::strerror(errno);
    rlimit limit{};
    const bool limited = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    throw std::runtime_error("the weights cannot be locked in memory: " + reason +
                             (limited ? " (the limit is " + mebibytes(limit.rlim_cur) + ": ulimit -l)" : ""));
#else
    (void)data;
    (void)size;
    throw std::runtime_error("the weights cannot be locked in memory on this system");
#endif
}

}  // namespace trimode
