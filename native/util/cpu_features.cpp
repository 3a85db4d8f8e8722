#include "util/cpu_features.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace trimode {

namespace {

#if defined(__x86_64__) || defined(__i386__)

struct Registers {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// Zeros where the processor has no such leaf.
Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r;
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
    return r;
}

// Linux lends a process the registers of tiles when it asks (Documentation/arch/x86/xstate.rst).
bool may_use_tiles() {
#if defined(__linux__) && defined(__x86_64__)
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

CpuFeatures detect() {
    constexpr unsigned F16C = 1u << 29, AVX_VNNI = 1u << 4, AMX_TILE = 1u << 24, AMX_INT8 = 1u << 25;
    CpuFeatures found;
    __builtin_cpu_init();  // asks the operating system (xgetbv) too
    found.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (cpuid(1, 0).ecx & F16C);
    // By number: older compilers do not know the name.
    found.avx_vnni = found.avx2 && (cpuid(7, 1).eax & AVX_VNNI);
    found.avx512 = found.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    found.avx512_vnni = found.avx512 && __builtin_cpu_supports("avx512vnni");
    const unsigned tiles = cpuid(7, 0).edx;
    found.amx_int8 = found.avx512_vnni && (tiles & AMX_TILE) && (tiles & AMX_INT8) && may_use_tiles();
    return found;
}

#elif defined(__aarch64__) && defined(__APPLE__)

bool has(const char * name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

CpuFeatures detect() {
    CpuFeatures found;
    found.neon_dotprod = has("hw.optional.arm.FEAT_DotProd");
    found.neon_i8mm = found.neon_dotprod && has("hw.optional.arm.FEAT_I8MM");
    return found;
}

#elif defined(__aarch64__) && defined(__linux__)

CpuFeatures detect() {
    constexpr unsigned long ASIMDDP = 1ul << 20, I8MM = 1ul << 13;  // Documentation/arch/arm64/elf_hwcaps.rst
    CpuFeatures found;
    found.neon_dotprod = getauxval(AT_HWCAP) & ASIMDDP;
    found.neon_i8mm = found.neon_dotprod && (getauxval(AT_HWCAP2) & I8MM);
    return found;
}

#else

CpuFeatures detect() { return {}; }

#endif

}  // namespace

const CpuFeatures & cpu_features() {
    static const CpuFeatures found = detect();
    return found;
}

}  // namespace trimode
