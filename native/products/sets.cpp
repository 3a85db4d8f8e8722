#include <cstdlib>
#include <stdexcept>

#include "products/cpu.h"
#include "products/products.h"

namespace trimode::products {

#define X(name, supported) extern const Kernels KERNELS_##name;
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
    std::vector<const Kernels *> sets;
#define X(name, supported)               \
    if (supported) {                     \
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
