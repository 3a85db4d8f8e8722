#include "products/vectors_neon.h"

namespace trimode::products {

extern const Kernels KERNELS_NEON_I8MM;
const Kernels KERNELS_NEON_I8MM = kernels_over<Neon>("neon-i8mm");

}  // namespace trimode::products
