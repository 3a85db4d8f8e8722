// Where in a verification the next draft is made ready, and how wide.
#pragma once

#include <vector>

#include "speculation/acceptance.h"
#include "speculation/cycle.h"
#include "speculation/pass_cost.h"

namespace trimode {

// Rows and tokens that the other requests bring to an average pass.
struct Load {
    double rows = 0.0;
    double tokens = 0.0;
    // Of these requests, so many choose their cycles as well; the rest brings so much, whatever they choose.
    int n_choosing = 0;
    double fixed_rows = 0.0;
    double fixed_tokens = 0.0;
};

// What the gain of a group is computed from.
struct Estimates {
    const PassCost & cost;
    const Acceptance & acceptance;
    Load load;
    double after_rejection;  // how often the first mask behind a rejected draft predicts the target's token
    double rate = 0.0;       // tokens per second, what time is worth; 0: not known, and no group but the first pays
};

// The groups that ride with a verification of `n_draft` drafts, of which the first is at `first` of its block (1: its
// first mask predicted the token that is verified before them). One of `length` masks behind all of them, and where it
// pays others behind fewer: those first that are needed most often, each with the most profitable of `widths`. A group
// pays if the tokens that it makes ready are expected to be worth more than the time that its rows take.
std::vector<Branch> choose_branches(const Estimates & estimates, int length, int n_draft, int first,
                                    const std::vector<int> & widths);

// What cycles of a kind come to, of all requests together.
struct Expectation {
    double tokens = 0.0;
    // Of a kind of their own: fused, those that start without a draft; with trees, those that verify.
    double first_passes = 0.0, first_rows = 0.0;
    double passes = 0.0, rows = 0.0;  // all others
    double seconds(const PassCost & cost) const {
        return first_passes * cost.seconds(first_rows) + passes * cost.seconds(rows);
    }
    double rate(const PassCost & cost) const {
        const double seconds = this->seconds(cost);
        return seconds > 0.0 ? tokens / seconds : 0.0;
    }
    double tokens_per_pass() const { return tokens / (first_passes + passes); }
    double rows_per_pass() const { return (first_passes * first_rows + passes * rows) / (first_passes + passes); }
};

// A pass without a draft, and as many with groups of `length` masks as follow it on average.
Expectation expect_fused(const Estimates & estimates, int length);

}  // namespace trimode
