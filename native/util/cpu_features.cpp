#include "util/cpu_features.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace trimode {

namespace {

CpuFeatures detect() {
    CpuFeatures found;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();  // asks the operating system (xgetbv) too
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & (1u << 29));
    found.fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
    found.avx512 = found.fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    found.avx512_vnni = found.avx512 && __builtin_cpu_supports("avx512vnni");
    found.avx_vnni = found.fma && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << 4));
#endif
    return found;
}

}  // namespace

const CpuFeatures & cpu_features() {
    static const CpuFeatures found = detect();
    return found;
}

}  // namespace trimode
