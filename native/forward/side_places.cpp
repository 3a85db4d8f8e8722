#include "forward/side_places.h"

#include <algorithm>

#include "attention/kernel.h"

namespace trimode {

SidePlaces::SidePlaces(int32_t first, int n_taken, int32_t end) : first_(first), taken_(std::max(end - first, 0)) {
    std::fill_n(taken_.begin(), std::min<size_t>(n_taken, taken_.size()), 1);
}

// From `place` on, up to the first that is taken.
int SidePlaces::n_free(int32_t place, int most) const {
    int n = 0;
    for (size_t i = place - first_; n < most && i < taken_.size() && !taken_[i]; ++i) {
        ++n;
    }
    return n;
}

int32_t SidePlaces::take(int32_t pos, int & n) {
    const int32_t end_of_stretch = (pos / STRETCH + 1) * STRETCH;
    int32_t best = -1;
    int most = 0;
    for (int32_t place = pos + LANES; place < end_of_stretch && most < n; place += LANES) {
        const int found = n_free(place, std::min(n, end_of_stretch - place));
        if (found > most) {
            best = place;
            most = found;
        }
    }
    n = most;
    if (n > 0) {
        std::fill_n(taken_.begin() + (best - first_), n, 1);
    }
    return best;
}

int SidePlaces::extent() const {
    return static_cast<int>(taken_.rend() - std::find(taken_.rbegin(), taken_.rend(), 1));
}

}  // namespace trimode
