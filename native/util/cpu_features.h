// Which instruction sets the kernels of products/ and attention/ may use on this machine.
#pragma once

namespace trimode {

struct CpuFeatures {
    bool avx2 = false;      // with FMA and F16C
    bool avx_vnni = false;  // the same and 256-bit vpdpbusd, VEX encoded
    bool avx512 = false;    // the same as avx2 and F, BW, DQ, VL
    bool avx512_vnni = false;
    bool amx_int8 = false;  // the same as avx512_vnni and tiles, which the operating system was asked for

    bool neon_dotprod = false;  // products of signed bytes; halves and fused multiply-add every 64-bit ARM has
    bool neon_i8mm = false;     // the same and products of matrices of bytes
};

// Of this machine, and of its operating system: registers that it does not save are not used.
const CpuFeatures & cpu_features();

}  // namespace trimode
