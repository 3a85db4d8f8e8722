// How many tokens to draft: the block length with the most expected tokens per second, plain AR being length 1.
#pragma once

#include <cstdint>
#include <vector>

#include "acceptance.h"
#include "pass_cost.h"

namespace trimode {

// Rows and tokens that the other requests bring to an average pass.
struct Load {
    double rows = 0.0;
    double tokens = 0.0;
};

// One of an engine. A cycle of self-speculation is two passes, each with as many rows as the block is long; a request
// that runs beside others shares their passes, so its rows cost t(others + rows) - t(others).
class DraftLength {
  public:
    explicit DraftLength(int max_length, std::vector<double> prior = Acceptance::published());

    // What a new request starts from: the rates of those before it.
    Acceptance new_request() const;

    // The length for a request's next cycle. Mostly the best one; now and then, for a bounded share of the time,
    // another that might be better by what is known of it.
    int choose(const Acceptance & acceptance, const Load & load = {});

    // The length with the most expected tokens per second of what is known now, and that rate.
    int best(const Acceptance & acceptance, const Load & load = {}) const;
    double rate(int length, const Acceptance & acceptance, const Load & load = {}) const;

    // Who shared a pass: the load of the next ones.
    void observe_crowd(int n_requests, int rows, int tokens);
    Load load() const { return {(n_requests_ - 1) * mean_rows_, (n_requests_ - 1) * mean_tokens_}; }

    void observe_pass(int rows, double seconds);
    void observe_cycle(int drafted, int accepted) { acceptance_.observe(drafted, accepted); }

    const PassCost & cost() const { return cost_; }
    const Acceptance & acceptance() const { return acceptance_; }
    const std::vector<int> & lengths() const { return lengths_; }

  private:
    // Another length, tried although it does not seem to be the best one.
    struct Trial {
        int length = 0;       // 0: none, or its loss is counted
        double tokens = 0.0;  // expected of a pass
        double best_rate = 0.0;
        Load load;
    };
    double expected_tokens(int length, const Acceptance & acceptance, const Load & load) const;
    bool in_reach(int length, const Load & load) const;
    double hope(double rows) const;
    double loss(const Trial & trial) const;
    int worth_trying(const Acceptance & acceptance, const Load & load, double best_rate) const;

    std::vector<int> lengths_;  // to choose from, ascending
    PassCost cost_;
    Acceptance acceptance_;  // of all requests
    int n_requests_ = 1;
    double mean_rows_ = 1.0;    // of a request in a pass
    double mean_tokens_ = 1.0;  // that a request emits in a pass
    Trial trial_;               // the last one
    double seconds_ = 0.0;      // of all passes
    double lost_ = 0.0;         // of these, by trials
};

}  // namespace trimode
