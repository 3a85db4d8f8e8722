// What an engine has learned about its cycles, as another one of the same model on the same machine may begin with it.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace trimode {

struct Learned {
    using Pass = std::array<double, 3>;   // rows, seconds, passes that were measured
    using Share = std::array<double, 2>;  // counted (they fade), of these right

    std::vector<Pass> passes;   // by their rows, ascending
    std::vector<Share> drafts;  // by their position in the draft
    std::vector<Share> ngrams;  // drafts that were read off the text, by how many tokens before them were the same
    double after_rejection = 0.5;
};

// Such a state is a prior: what is observed from now on soon weighs more. The shares, scaled down so that none has more
// than `most` counted ones. Throws std::invalid_argument, naming `what`, for another number of shares than `n` and for
// shares that cannot be.
std::vector<Learned::Share> as_prior(std::vector<Learned::Share> shares, std::size_t n, double most, const char * what);

}  // namespace trimode
