#include "speculation/branches.h"

#include <algorithm>

namespace trimode {

namespace {

constexpr int MAX_ROWS = 256;        // of a pass: what more could bring is rarely needed
constexpr double MAX_AGAIN = 0.999;  // a draft follows a draft at most so often

// For each n <= n_draft the probability that exactly the first n drafts are accepted.
std::vector<double> ends_behind(const Estimates & e, int n_draft, int first) {
    std::vector<double> ends(n_draft + 1);
    double all = 1.0;
    for (int n = 0; n < n_draft; ++n) {
        const double rate = e.acceptance.rate(first + n);
        ends[n] = all * (1.0 - rate);
        all *= rate;
    }
    ends[n_draft] = all;
    return ends;
}

double seconds(const Estimates & e, double rows) { return e.cost.seconds(e.load.rows + rows); }

// Tokens that a draft of `width` - 1 is worth when it is ready, above none: verified alone, or with groups again.
double worth(const Estimates & e, int width) {
    const double tokens = e.acceptance.tokens(width, 1) + e.load.tokens;
    const double again = std::min(e.acceptance.all(width - 1, 1) * e.acceptance.rate(0), MAX_AGAIN);
    return std::max(tokens - e.rate * seconds(e, width), (tokens - e.rate * seconds(e, 2.0 * width)) / (1.0 - again));
}

struct Offer {
    int width = 0;
    double gain = 0.0;
};

Offer best_offer(const Estimates & e, double needed, int rows, const std::vector<int> & widths) {
    Offer best;
    for (const int width : widths) {
        if (width < 2 || rows + width > MAX_ROWS) {
            continue;
        }
        const double gain =
            needed * e.after_rejection * worth(e, width) - e.rate * (seconds(e, rows + width) - seconds(e, rows));
        if (gain > best.gain) {
            best = {width, gain};
        }
    }
    return best;
}

}  // namespace

std::vector<Branch> choose_branches(const Estimates & e, int length, int n_draft, int first,
                                    const std::vector<int> & widths) {
    std::vector<Branch> chosen{{n_draft, length}};
    if (e.rate <= 0.0) {
        return chosen;
    }
    std::vector<double> needed = ends_behind(e, n_draft, first);  // how often; 0 once it is there
    needed.pop_back();
    for (int rows = 1 + n_draft + length; !needed.empty();) {
        const auto most = std::max_element(needed.begin(), needed.end());
        const Offer offer = best_offer(e, *most, rows, widths);
        if (offer.width == 0) {
            break;
        }
        chosen.push_back({static_cast<int>(most - needed.begin()), offer.width});
        rows += offer.width;
        *most = 0.0;
    }
    return chosen;
}

Expectation expect_fused(const Estimates & e, int length) {
    const double match = e.acceptance.rate(0);
    const int n_draft = length - 1;
    double rows = 0.0;  // of a pass with a draft
    double again = 0.0;
    const std::vector<double> ends = ends_behind(e, n_draft, 1);
    for (const Branch & branch : choose_branches(e, length, n_draft, 1, {length})) {
        rows += branch.width;
        again += ends[branch.after] * (branch.after == n_draft ? match : e.after_rejection);
    }
    const double passes = match / (1.0 - std::min(again, MAX_AGAIN));  // for each without a draft
    return {1.0 + passes * e.acceptance.tokens(length, 1) + (1.0 + passes) * e.load.tokens, 1.0,
            1.0 + length + e.load.rows, passes, 1.0 + n_draft + rows + e.load.rows};
}

}  // namespace trimode
