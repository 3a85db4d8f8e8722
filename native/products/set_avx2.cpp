#include "products/vectors_avx2.h"

namespace trimode::products {

extern const Kernels KERNELS_AVX2;
const Kernels KERNELS_AVX2 = kernels_over<Avx2>("avx2");

}  // namespace trimode::products
