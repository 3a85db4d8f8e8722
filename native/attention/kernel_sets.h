// The kernels of each instruction set; which of them this machine can run: kernel.h.
#pragma once

#include "attention/kernel.h"

#if defined(__x86_64__)
#define TRIMODE_X86
#elif defined(__aarch64__)
#define TRIMODE_ARM
#endif

namespace trimode {

extern const AttentionKernel ATTENTION_PLAIN;
extern const AttentionKernel ATTENTION_UNFUSED;
#ifdef TRIMODE_X86
extern const AttentionKernel ATTENTION_AVX2;
extern const AttentionKernel ATTENTION_AVX512;
#endif
#ifdef TRIMODE_ARM
extern const AttentionKernel ATTENTION_NEON;
#endif

}  // namespace trimode
