#include "products/vectors_avx2.h"

namespace trimode::products {

extern const Kernels KERNELS_AVX_VNNI;
const Kernels KERNELS_AVX_VNNI = kernels_over<Avx2>("avx-vnni");

}  // namespace trimode::products
