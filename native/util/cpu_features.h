// Which instruction sets the kernels of products/ and attention/ may use on this machine.
#pragma once

namespace trimode {

struct CpuFeatures {
    bool fma = false;       // with AVX2 and F16C
    bool avx_vnni = false;  // 256 bit vpdpbusd, VEX encoded
    bool avx512 = false;    // F, BW, DQ, VL
    bool avx512_vnni = false;
};

// Of this machine, and of its operating system: registers that it does not save are not used.
const CpuFeatures & cpu_features();

}  // namespace trimode
