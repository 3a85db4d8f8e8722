// What this processor and operating system can run.
#pragma once

namespace trimode::products {

// The sets that were compiled, best first, and whether this machine can run each.
#if defined(PYTRIMODE_X86_SETS)
#define PYTRIMODE_KERNEL_SETS(X) \
    X(AMX, has_amx_int8())       \
    X(AVX512_VNNI, has_avx512_vnni()) X(AVX_VNNI, has_avx_vnni()) X(AVX2, has_avx2()) X(PLAIN, true)
#else
#define PYTRIMODE_KERNEL_SETS(X) X(PLAIN, true)
#endif

bool has_avx2();         // with FMA and F16C
bool has_avx_vnni();     // the same and 256-bit VNNI
bool has_avx512_vnni();  // F, BW, DQ, VL and VNNI
bool has_amx_int8();     // the same and AMX; asks the operating system for its registers

}  // namespace trimode::products
