// What this processor and operating system can run.
#pragma once

namespace trimode::products {

// The sets that were compiled, best first, and whether this machine can run each.
#if defined(PYTRIMODE_X86_SETS)
#define PYTRIMODE_KERNEL_SETS(X) \
    X(AMX, has_amx_int8())       \
    X(AVX512_VNNI, has_avx512_vnni()) X(AVX_VNNI, has_avx_vnni()) X(AVX2, has_avx2()) X(PLAIN, true)
#elif defined(PYTRIMODE_ARM_SETS)
#define PYTRIMODE_KERNEL_SETS(X) X(NEON_I8MM, has_neon_i8mm()) X(NEON_DOTPROD, has_neon_dotprod()) X(PLAIN, true)
#else
#define PYTRIMODE_KERNEL_SETS(X) X(PLAIN, true)
#endif

bool has_avx2();         // with FMA and F16C
bool has_avx_vnni();     // the same and 256-bit VNNI
bool has_avx512_vnni();  // F, BW, DQ, VL and VNNI
bool has_amx_int8();     // the same and AMX; asks the operating system for its registers

bool has_neon_dotprod();  // products of signed bytes; halves and fused multiply-add every 64-bit ARM has
bool has_neon_i8mm();     // the same and products of matrices of bytes

}  // namespace trimode::products
