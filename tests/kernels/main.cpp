// Holds every set of kernels that this machine can run against the plain one, bit for bit: tools/check_kernels.sh.
//
//   check_kernels [NAME]...     sets that must be among those that ran, such as products/neon-dotprod
#include <cinttypes>
#include <cstdio>

#include "check.h"

namespace {

// Of the plain kernels' results: IEEE 754 leaves them no choice, so they are the same on every processor.
constexpr uint64_t PRODUCTS = 0xf0b1c48a73645d56, ATTENTION = 0x8afc4fedf0539a23;

int check_hash(const char * name, uint64_t found, uint64_t expected) {
    if (found == expected) {
        return 0;
    }
    std::printf("%s: the plain results have the hash 0x%016" PRIx64 ", expected 0x%016" PRIx64 "\n", name, found,
                expected);
    return 1;
}

}  // namespace

int main(int argc, char ** argv) {
    std::set<std::string> ran;
    uint64_t products = 0xcbf29ce484222325, attention = products;
    int wrong = check_products(ran, products);
    wrong += check_attention(ran, attention);
    wrong += check_hash("products", products, PRODUCTS);
    wrong += check_hash("attention", attention, ATTENTION);
    for (int i = 1; i < argc; ++i) {
        if (ran.count(argv[i]) == 0) {
            std::printf("%s: this machine cannot run it\n", argv[i]);
            ++wrong;
        }
    }
    for (const std::string & name : ran) {
        std::printf("ran %s\n", name.c_str());
    }
    std::printf(wrong == 0 ? "all bits are those of the plain kernels\n" : "%d checks failed\n", wrong);
    return wrong == 0 ? 0 : 1;
}
