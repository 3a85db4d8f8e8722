// VECTORIZED before a function: compiled for AVX2 too, where the compiler and the C library can choose at load time.
// Without fused multiply-add, so the results do not depend on the machine. Not under ThreadSanitizer, which is not
// there yet when the C library chooses.
#pragma once

#include <cstddef>

#if defined(__has_attribute)
#if __has_attribute(target_clones) && defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
#define VECTORIZED __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef VECTORIZED
#define VECTORIZED
#endif
