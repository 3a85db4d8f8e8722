#include "products/vectors_neon.h"

namespace trimode::products {

extern const Kernels KERNELS_NEON_DOTPROD;
const Kernels KERNELS_NEON_DOTPROD = kernels_over<Neon>("neon-dotprod");

}  // namespace trimode::products
