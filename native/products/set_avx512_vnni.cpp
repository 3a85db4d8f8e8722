#include "products/vectors_avx512.h"

namespace trimode::products {

extern const Kernels KERNELS_AVX512_VNNI;
const Kernels KERNELS_AVX512_VNNI = kernels_over<Avx512>("avx512-vnni");

}  // namespace trimode::products
