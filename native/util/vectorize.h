// VECTORIZED before a function: compiled for AVX2 too, where the compiler and the C library can choose at load time.
// Without fused multiply-add, so the results do not depend on the machine.
#pragma once

#include <cstddef>

#if defined(__has_attribute)
#if __has_attribute(target_clones) && defined(__x86_64__) && defined(__GLIBC__)
#define VECTORIZED __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef VECTORIZED
#define VECTORIZED
#endif
