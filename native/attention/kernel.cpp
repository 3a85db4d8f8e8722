#include "attention/kernel.h"

#include <cstdlib>
#include <stdexcept>

#include "attention/kernel_sets.h"
#include "util/cpu_features.h"

namespace trimode {

namespace {

constexpr const char * VARIABLE = "PYTRIMODE_ATTENTION";

std::vector<const AttentionKernel *> runnable() {
    std::vector<const AttentionKernel *> found;
#ifdef TRIMODE_X86
    if (cpu_features().avx512) {
        found.push_back(&ATTENTION_AVX512);
    }
    if (cpu_features().avx2) {
        found.push_back(&ATTENTION_AVX2);
    } else {
        found.push_back(&ATTENTION_UNFUSED);
    }
#endif
#ifdef TRIMODE_ARM
    found.push_back(&ATTENTION_NEON);
#endif
    found.push_back(&ATTENTION_PLAIN);
    return found;
}

const AttentionKernel & chosen() {
    const char * wanted = std::getenv(VARIABLE);
    const std::string name = wanted ? wanted : "";
    std::string names;
    for (const AttentionKernel * kernel : attention_kernels()) {
        if (name.empty() || name == kernel->name) {
            return *kernel;
        }
        names += (names.empty() ? "" : ", ") + std::string(kernel->name);
    }
    throw std::runtime_error(std::string(VARIABLE) + " is \"" + name + "\"; this machine has " + names);
}

}  // namespace

const std::vector<const AttentionKernel *> & attention_kernels() {
    static const std::vector<const AttentionKernel *> found = runnable();
    return found;
}

const AttentionKernel & attention_kernel() {
    static const AttentionKernel & found = chosen();
    return found;
}

}  // namespace trimode
