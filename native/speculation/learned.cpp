#include "speculation/learned.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace trimode {

std::vector<Learned::Share> as_prior(std::vector<Learned::Share> shares, std::size_t n, double most,
                                     const char * what) {
    if (shares.size() != n) {
        throw std::invalid_argument(std::string(what) + ": " + std::to_string(n) + " shares are needed, there are " +
                                    std::to_string(shares.size()));
    }
    double highest = most;
    for (const auto & [counted, right] : shares) {
        if (!std::isfinite(counted) || !(0.0 <= right && right <= counted)) {
            throw std::invalid_argument(std::string(what) + ": " + std::to_string(right) + " of " +
                                        std::to_string(counted) + " cannot be right");
        }
        highest = std::max(highest, counted);
    }
    for (auto & [counted, right] : shares) {
        counted *= most / highest;
        right *= most / highest;
    }
    return shares;
}

}  // namespace trimode
