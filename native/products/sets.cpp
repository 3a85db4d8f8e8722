#include <cstdlib>
#include <stdexcept>

#include "products/products.h"
#include "util/cpu_features.h"

// The sets that were compiled, best first, and what each needs of the machine.
#if defined(PYTRIMODE_AVX2_ONLY)
#define PYTRIMODE_KERNEL_SETS(X) X(AVX2, found.avx2) X(PLAIN, true)
#elif defined(PYTRIMODE_X86_SETS)
#define PYTRIMODE_KERNEL_SETS(X) \
    X(AMX, found.amx_int8)       \
    X(AVX512_VNNI, found.avx512_vnni) X(AVX_VNNI, found.avx_vnni) X(AVX2, found.avx2) X(PLAIN, true)
#elif defined(PYTRIMODE_ARM_SETS)
#define PYTRIMODE_KERNEL_SETS(X) X(NEON_I8MM, found.neon_i8mm) X(NEON_DOTPROD, found.neon_dotprod) X(PLAIN, true)
#else
#define PYTRIMODE_KERNEL_SETS(X) X(PLAIN, true)
#endif

namespace trimode::products {

#define X(name, runs) extern const Kernels KERNELS_##name;
PYTRIMODE_KERNEL_SETS(X)
#undef X

namespace {

constexpr const char * VARIABLE = "PYTRIMODE_PRODUCTS";

const Kernels * choose() {
    const char * wanted = std::getenv(VARIABLE);
    const std::string name = wanted ? wanted : "";
    const std::vector<const Kernels *> sets = available();
    if (name == "off") {
        return nullptr;
    }
    if (name.empty()) {
        return sets.size() > 1 ? sets.front() : nullptr;
    }
    std::string names = "off";
    for (const Kernels * set : sets) {
        if (name == set->name) {
            return set;
        }
        names += std::string(", ") + set->name;
    }
    throw std::invalid_argument(std::string(VARIABLE) + ": \"" + name +
                                "\" is not available here; available: " + names);
}

}  // namespace

std::vector<const Kernels *> available() {
    [[maybe_unused]] const CpuFeatures & found = cpu_features();
    std::vector<const Kernels *> sets;
#define X(name, runs)                    \
    if (runs) {                          \
        sets.push_back(&KERNELS_##name); \
    }
    PYTRIMODE_KERNEL_SETS(X)
#undef X
    return sets;
}

const Kernels * in_use() {
    static const Kernels * const chosen = choose();
    return chosen;
}

}  // namespace trimode::products
