// Counter-based random numbers: a pure function of seed and counter, so that a request draws the same numbers whatever
// runs beside it. Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").
#pragma once

#include <cstdint>

namespace trimode {

// What a number is drawn for: independent streams at one position.
enum class Draw : uint32_t { target, draft, accept, residual, gumbel };

// Uniform in (0, 1), 52 bits. `position` is the position of the token being drawn, `index` distinguishes further
// draws there (the token id for Gumbel noise).
double uniform(uint64_t seed, int32_t position, Draw draw, uint32_t index = 0);

// Standard Gumbel noise of a token at a position: -ln(-ln u).
double gumbel(uint64_t seed, int32_t position, int32_t token);

}  // namespace trimode
