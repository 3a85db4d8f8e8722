// How to go on: the block length with the most expected tokens per second, plain AR being length 1, and whether drafts
// ride with the verification of those before them.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "speculation/acceptance.h"
#include "speculation/branches.h"
#include "speculation/cycle.h"
#include "speculation/draft_tree.h"
#include "speculation/ngram_acceptance.h"
#include "speculation/pass_cost.h"

namespace trimode {

// One of an engine. A cycle of self-speculation is two passes, each with as many rows as the block is long, or fused
// passes of twice as many; a request that runs beside others shares their passes, so its rows cost
// t(others + rows) - t(others). What is best for each while the others stay as they are need not be best for all: among
// long drafts another one costs little. So a request also asks what would be best if all that choose did the same, and
// does that if it promises more.
class DraftLength {
  public:
    // `steps`: where passes are padded, the numbers of rows to which they are; other lengths are not worth choosing.
    // `max_rows`: of a verification of drafts that were read off the text; 0: max_length.
    explicit DraftLength(int max_length, std::vector<double> prior = Acceptance::published(),
                         const std::vector<int> & steps = {}, int max_rows = 0);

    // What a new request starts from: the rates of those before it.
    Acceptance new_request() const;

    // A request's next cycle. Mostly the best one; now and then, for a bounded share of the time, another that might be
    // better by what is known of it.
    Cycle choose(const Acceptance & acceptance, const Load & load = {}, const CycleChoice & choice = {});

    // The cycle with the most expected tokens per second of what is known now, and that rate.
    Cycle best(const Acceptance & acceptance, const Load & load = {}, const CycleChoice & choice = {}) const;
    double rate(const Cycle & cycle, const Acceptance & acceptance, const Load & load = {}) const;

    // The groups that ride with a verification of `n_draft` drafts in a fused cycle; see branches.h.
    std::vector<Branch> branches(const Cycle & cycle, int n_draft, int first, const Acceptance & acceptance,
                                 const Load & load = {}) const;

    // What to verify of a draft whose best tokens have these leads, in at most `most_rows` rows; `n_beside`: the whole
    // chain and so many drafts beside it; < 0: what is worth its rows.
    DraftTree tree(const Cycle & cycle, const std::vector<float> & leads, int n_beside, int most_rows,
                   const Acceptance & acceptance, const Load & load = {}) const;

    // How many drafts read off the text to verify, where the last `match` tokens stood before and `most` tokens follow
    // there: as many as promise the most tokens per second, 0 where the cycle `instead` promises more.
    int looked_up(const NgramAcceptance & acceptance, int match, int most, double instead, const Load & load) const;

    int most_rows() const { return widths_.empty() ? 1 : widths_.back(); }

    // A token was emitted behind such a match: what followed it before, or another one.
    void observe_lookup(int match, bool right) { ngrams_.observe(match, right); }
    NgramAcceptance new_lookup() const;

    // Who shares the next pass: requests that choose their cycles, `n_new` of which begin, with plain AR; and others.
    void expect_crowd(int n_choosing, int n_new, int n_fixed);
    // What the requests of either kind brought to a pass.
    struct Brought {
        int n_requests = 0;
        int rows = 0;
        int tokens = 0;
    };
    void observe_crowd(const Brought & choosing, const Brought & fixed);
    // A request goes on in another way from now on: those that choose next know of it before a pass has shown it.
    void moved(const Cycle & from, const Cycle & to, const Acceptance & acceptance);
    Load load() const;

    // `seconds` 0: they say nothing of other passes. `chosen`: it served a cycle that `choose` chose; trials may take a
    // share of the time of such passes.
    void observe_pass(int rows, double seconds, bool chosen = true);
    void observe_cycle(int drafted, int accepted, int uncounted = 0) {
        acceptance_.observe(drafted, accepted, uncounted);
    }
    void observe_node(NodeChances::Kind kind, float lead, bool right) { nodes_.observe(kind, lead, right); }
    // A verification by price took so many rows, and emitted so many tokens.
    void observe_tree(const Cycle & cycle, const Acceptance & acceptance, int rows, int tokens);
    // A verification ended behind a rejected draft, where a group stood ready; its first mask predicted the target's
    // token.
    void observe_rejection(bool predicted) { after_rejection_ += (predicted - after_rejection_) * REJECTION_GAIN; }

    // What is known, for `restore` of another one; nothing has been `observed` of passes unless one was. Throws
    // std::invalid_argument, and changes nothing, for what cannot have been learned.
    bool observed() const { return n_passes_ > 0; }
    Learned learned() const;
    void restore(const Learned & learned);

    const PassCost & cost() const { return cost_; }
    const Acceptance & acceptance() const { return acceptance_; }
    const std::vector<int> & lengths() const { return lengths_; }
    double after_rejection() const { return after_rejection_; }

  private:
    static constexpr double REJECTION_GAIN = 0.02;
    static constexpr double TREE_GAIN = 0.02;

    // Another cycle, tried although it does not seem to be the best one.
    struct Trial {
        Cycle cycle;
        Expectation expected;  // of no passes: there is none, or its loss is counted
        double best_rate = 1.0;
    };
    // Two numbers of rows make a line; one is enough where all passes are padded to the same.
    bool knows_enough() const { return cost_.n_known() >= (cost_.alike(1, lengths_.back()) ? 1 : 2); }
    struct Rated {
        Cycle cycle;
        double rate = 0.0;
    };
    // Of a request, to a pass.
    struct Mean {
        double rows = 1.0;
        double tokens = 1.0;
        void observe(const Brought & brought);
    };
    std::vector<Cycle> candidates(const CycleChoice & choice) const;
    Rated best_rated(const std::vector<Cycle> & candidates, const Acceptance & acceptance, const Load & load) const;
    Rated best_beside(const std::vector<Cycle> & candidates, const Acceptance & acceptance, const Load & load,
                      bool all_alike) const;
    Load all_alike(const Cycle & cycle, const Load & load, double rate) const;
    Cycle first(const std::vector<Cycle> & candidates, const Load & load, const CycleChoice & choice);
    Expectation expect(const Cycle & cycle, const Acceptance & acceptance, const Load & load, double rate) const;
    Estimates estimates(const Acceptance & acceptance, const Load & load, double rate) const;
    bool in_reach(const Cycle & cycle, double rows) const;
    bool is_known(const Cycle & cycle, double rows) const;
    int64_t age(const Cycle & cycle, int rows) const;
    double optimism(int64_t age, double rows) const;
    double loss(const Trial & trial) const;
    Trial worth_trying(const std::vector<Cycle> & candidates, const Acceptance & acceptance, const Load & load,
                       double best_rate) const;

    std::vector<int> lengths_;  // to choose from, ascending
    std::vector<int> widths_;   // rows of a verification of drafts that were read off, ascending
    NgramAcceptance ngrams_;    // of all requests
    PassCost cost_;
    Acceptance acceptance_;  // of all requests
    double after_rejection_ = 0.5;
    int n_choosing_ = 0;
    int n_fixed_ = 0;
    Mean choosing_, fixed_;
    double moved_rows_ = 0.0;  // what the mean does not know yet of requests that have moved or begun
    double moved_tokens_ = 0.0;
    Trial trial_;        // the last one
    NodeChances nodes_;  // of all requests
    // Rows and tokens of a verification by price, against those of one of the whole chain.
    double tree_rows_ = 1.0, tree_tokens_ = 1.05;
    int64_t n_passes_ = 0;
    int64_t next_look_ = 0;
    std::map<std::pair<int, bool>, int64_t> tried_;  // the pass before the last trial of a cycle
    double seconds_ = 0.0;                           // of passes that served chosen cycles
    double lost_ = 0.0;                              // of these, by trials
};

}  // namespace trimode
