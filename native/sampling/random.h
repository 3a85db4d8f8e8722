// Counter-based random numbers: a pure function of seed and counter, so that a request draws the same numbers whatever
// runs beside it. Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").
#pragma once

#include <cstdint>

namespace trimode {

// What a number is drawn for: independent streams at one position.
enum class Draw : uint32_t { target, draft, accept, residual, gumbel, simulated };

// Uniform in (0, 1), 52 bits. `position` is the position of the token being drawn, `index` distinguishes further
// draws there.
double uniform(uint64_t seed, int32_t position, Draw draw, uint32_t index = 0);

// Noise of tokens at a position, for Gumbel-max: with standard Gumbel noise g = -ln e of exponential variates e,
// argmax(ln w + g) is argmin(e / w), a race that the token whose time e / w is the shortest wins.
constexpr int NOISE_GROUP = 64;  // tokens whose upper bits are made together

// -ln u of a token, u uniform in (0, 1) with 52 bits.
double exponential(uint64_t seed, int32_t position, int32_t token);

// The upper 32 bits of u of NOISE_GROUP tokens from `first` on, a multiple of it.
void noise_words(uint64_t seed, int32_t position, int32_t first, uint32_t * words);

// The same for one of these tokens, its upper bits known.
double exponential(uint64_t seed, int32_t position, int32_t token, uint32_t word);

}  // namespace trimode
