// Acceptance that is decided by lot: how fast a model of random weights would be if its drafts were as good as given.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sampling/random.h"

namespace trimode {

// For benchmarks only; the text is meaningless. A lot is drawn for each position of the text, so all block lengths meet
// the same hard spots.
struct SimulatedAcceptance {
    std::vector<double> rates;  // of position 1, 2, ... of a draft where all before it were accepted; the last one
                                // holds for all behind it. Empty: drafts are compared with the target, as always
    double after_rejection =
        0.5;  // how often the first mask of a group behind a rejected draft predicts the next token

    explicit operator bool() const { return !rates.empty(); }

    double rate(int i) const { return rates[std::min<size_t>(i, rates.size() - 1)]; }

    // Whether draft `i` of a block, 0 being the first, is accepted at `position` of the sequence.
    bool accepts(uint64_t seed, int32_t position, int i) const {
        return uniform(seed, position, Draw::simulated, 0) < rate(i);
    }

    // Whether the first mask of a group predicts the token at `position`.
    bool predicts(uint64_t seed, int32_t position, bool rejected) const {
        return uniform(seed, position, Draw::simulated, 1) < (rejected ? after_rejection : rate(0));
    }

    // Throws std::invalid_argument for what is no probability.
    void check() const;
};

}  // namespace trimode
