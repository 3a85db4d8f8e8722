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
    // How often the first mask of a group behind a rejected draft predicts the next token.
    double after_rejection = 0.5;
    // Of trees. How sure a draft seems: its chance varies from one position of the text to the next, its log-odds with
    // this standard deviation around `centres` (by position in the draft, as `rates`, which are the means of these
    // chances); empty: each has its rate.
    double spread = 0.0;
    std::vector<double> centres;
    double second = 0.57;  // how often the second-best token is right where the best one is not
    double strayed = 1.7;  // log-odds that a draft loses behind a second-best token

    explicit operator bool() const { return !rates.empty(); }

    double rate(int i) const { return rates[std::min<size_t>(i, rates.size() - 1)]; }

    // The chance of draft `i` of a block, 0 being the first, at `position` of the sequence; `strayed`: behind a
    // second-best token.
    double chance(uint64_t seed, int32_t position, int i, bool strayed = false) const;

    // Whether it is accepted there.
    bool accepts(uint64_t seed, int32_t position, int i, bool strayed = false) const {
        return uniform(seed, position, Draw::simulated, 0) < chance(seed, position, i, strayed);
    }

    // Whether the second-best token is right there, the best one being wrong.
    bool accepts_second(uint64_t seed, int32_t position) const {
        return uniform(seed, position, Draw::simulated, 2) < second;
    }

    // How far the logit of the best token seems to lead that of the second there.
    float lead(uint64_t seed, int32_t position, int i) const;

    // Whether the first mask of a group predicts the token at `position`.
    bool predicts(uint64_t seed, int32_t position, bool rejected) const {
        return uniform(seed, position, Draw::simulated, 1) < (rejected ? after_rejection : rate(0));
    }

    // Throws std::invalid_argument for what is no probability.
    void check() const;
};

}  // namespace trimode
