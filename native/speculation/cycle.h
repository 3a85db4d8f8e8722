// The ways in which self-speculation can go on.
#pragma once

#include <string>

namespace trimode {

// How many tokens to draft, and whether the draft rides with the verification of the one before it.
struct Cycle {
    int length = 1;      // rows of a block, or masks of a group; 1: plain AR, nothing drafted
    bool fused = false;  // one pass verifies and drafts; else one drafts, a second verifies
    bool tree = false;   // of the draft as much is verified as is worth its rows, second-best tokens too
};

// A group of masks that rides with a verification, for the case that it ends there: the first `after` drafts are
// accepted, and the token behind them is the target's own. Its first mask stands where that token will.
struct Branch {
    int after = 0;
    int width = 0;
};

// Whether cycles are fused.
enum class Fusing { never, always, measured };

// By name; std::invalid_argument for anything else.
Fusing parse_fusing(const std::string & name);
const char * name_of(Fusing fusing);

// What a request leaves open: the block length (0: any) and the kind of cycle.
struct CycleChoice {
    int length = 0;
    Fusing fusing = Fusing::never;
    bool tree = false;  // cycles that are not fused verify trees by price
};

}  // namespace trimode
