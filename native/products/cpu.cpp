#include "products/cpu.h"

#if defined(PYTRIMODE_X86_SETS)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace trimode::products {

// __builtin_cpu_supports also asks whether the operating system saves the registers.
bool has_avx2() {
    unsigned a, b, c = 0, d;
    constexpr unsigned F16C = 1u << 29;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & F16C);
}

bool has_avx_vnni() {
    unsigned a = 0, b, c, d;
    constexpr unsigned AVX_VNNI = 1u << 4;  // leaf 7, sub-leaf 1: older compilers do not know its name
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI);
}

bool has_avx512_vnni() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

bool has_amx_int8() {
#ifdef __linux__
    unsigned a, b, c, d = 0;
    constexpr unsigned AMX_TILE = 1u << 24, AMX_INT8 = 1u << 25;
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;  // Linux: Documentation/arch/x86/xstate.rst
    return has_avx512_vnni() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_TILE) && (d & AMX_INT8) &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

}  // namespace trimode::products
#endif

#if defined(PYTRIMODE_ARM_SETS)
#if defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#endif

namespace trimode::products {

#if defined(__APPLE__)
namespace {

bool has_feature(const char * name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

}  // namespace

bool has_neon_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }

bool has_neon_i8mm() { return has_neon_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__linux__)
bool has_neon_dotprod() {
    constexpr unsigned long ASIMDDP = 1ul << 20;  // Linux: Documentation/arch/arm64/elf_hwcaps.rst
    return getauxval(AT_HWCAP) & ASIMDDP;
}

bool has_neon_i8mm() {
    constexpr unsigned long I8MM = 1ul << 13;  // of the second word
    return has_neon_dotprod() && (getauxval(AT_HWCAP2) & I8MM);
}
#else
bool has_neon_dotprod() { return false; }

bool has_neon_i8mm() { return false; }
#endif

}  // namespace trimode::products
#endif
