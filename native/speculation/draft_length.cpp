#include "speculation/draft_length.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace trimode {

namespace {

constexpr int LENGTHS[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64};
constexpr int FIRST_LENGTH = 8;        // the second one measured, after plain AR: two points make a line
constexpr int LOOK_AGAIN = 4;          // passes until a crowd tries again, where nothing was learned
constexpr double TRIAL_SHARE = 0.005;  // of the time that trials may lose ...
constexpr double TRIAL_START = 8.0;    // ... and so many shortest passes, to begin with
constexpr double MAX_OPTIMISM = 0.6;   // a length not seen for long may be faster by this than it seems
constexpr double OPTIMISM = 0.02;      // times the square root of the passes since
constexpr double CROWD_GAIN = 0.02;
constexpr double UNKNOWN_FIRST = 1e6;
constexpr double TRIAL_PASSES = 2.0;
constexpr double LONG_MEMORY = 500.0;  // cycles, of all requests
constexpr double MEMORY = 60.0;        // cycles, of one

}  // namespace

DraftLength::DraftLength(int max_length, std::vector<double> prior, const std::vector<int> & steps, int max_rows)
    : ngrams_(LONG_MEMORY), cost_(steps), acceptance_(std::move(prior), LONG_MEMORY) {
    std::vector<int> lengths(std::begin(LENGTHS), std::end(LENGTHS));
    if (!steps.empty()) {
        lengths = steps;
        lengths.insert(lengths.end(), {1, std::max(max_length, 1)});
    }
    std::sort(lengths.begin(), lengths.end());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
    const int widest = max_rows > 0 ? max_rows : max_length;
    for (const int length : lengths) {
        if (length <= std::max(max_length, 1)) {
            lengths_.push_back(length);
        }
        if (length > 1 && length <= widest) {
            widths_.push_back(length);
        }
    }
}

Acceptance DraftLength::new_request() const { return Acceptance(acceptance_.rates(), MEMORY); }

NgramAcceptance DraftLength::new_lookup() const { return {ngrams_, MEMORY}; }

Learned DraftLength::learned() const {
    return {cost_.learned(), acceptance_.learned(), ngrams_.learned(), after_rejection_};
}

void DraftLength::restore(const Learned & learned) {
    if (!(0.0 <= learned.after_rejection && learned.after_rejection <= 1.0)) {
        throw std::invalid_argument("a share is a number between 0 and 1, not " +
                                    std::to_string(learned.after_rejection));
    }
    PassCost cost = cost_;
    Acceptance acceptance = acceptance_;
    NgramAcceptance ngrams = ngrams_;
    cost.restore(learned.passes);
    acceptance.restore(learned.drafts);
    ngrams.restore(learned.ngrams);
    cost_ = std::move(cost);
    acceptance_ = std::move(acceptance);
    ngrams_ = ngrams;
    after_rejection_ = learned.after_rejection;
}

int DraftLength::looked_up(const NgramAcceptance & acceptance, int match, int most, double instead,
                           const Load & load) const {
    int best = 0;
    double best_rate = instead;
    for (const int rows : widths_) {
        if (!knows_enough() || rows > most + 1 || !in_reach({rows, false}, rows + load.rows)) {
            break;
        }
        const Expectation expected{acceptance.tokens(match, rows - 1) + load.tokens, 0.0, 0.0, 1.0, rows + load.rows};
        if (expected.rate(cost_) > best_rate) {
            best = rows - 1;
            best_rate = expected.rate(cost_);
        }
    }
    return best;
}

void DraftLength::observe_pass(int rows, double seconds, bool chosen) {
    if (rows > 0 && seconds > 0.0) {
        cost_.observe(rows, seconds);
        seconds_ += chosen ? seconds : 0.0;
        ++n_passes_;
    } else if (!cost_.known(rows)) {
        tried_.erase({trial_.cycle.length, trial_.cycle.fused});  // the trial has shown nothing
    }
}

// Those that have left take their share of what the mean does not know yet with them.
void DraftLength::expect_crowd(int n_choosing, int n_new, int n_fixed) {
    const double stay = n_choosing_ > 0 ? std::min(double(n_choosing - n_new) / n_choosing_, 1.0) : 0.0;
    moved_rows_ = n_choosing < 2 ? 0.0 : stay * moved_rows_ + n_new * (1.0 - choosing_.rows);
    moved_tokens_ = n_choosing < 2 ? 0.0 : stay * moved_tokens_ + n_new * (1.0 - choosing_.tokens);
    n_choosing_ = n_choosing;
    n_fixed_ = n_fixed;
}

void DraftLength::Mean::observe(const Brought & brought) {
    if (brought.n_requests > 0) {
        rows += (double(brought.rows) / brought.n_requests - rows) * CROWD_GAIN;
        tokens += (double(brought.tokens) / brought.n_requests - tokens) * CROWD_GAIN;
    }
}

void DraftLength::observe_crowd(const Brought & choosing, const Brought & fixed) {
    choosing_.observe(choosing);
    fixed_.observe(fixed);
    moved_rows_ *= 1.0 - CROWD_GAIN;
    moved_tokens_ *= 1.0 - CROWD_GAIN;
}

void DraftLength::moved(const Cycle & from, const Cycle & to, const Acceptance & acceptance) {
    if (n_choosing_ > 1 && (from.length != to.length || from.fused != to.fused)) {
        const Expectation before = expect(from, acceptance, {}, 0.0);
        const Expectation after = expect(to, acceptance, {}, 0.0);
        moved_rows_ += after.rows_per_pass() - before.rows_per_pass();
        moved_tokens_ += after.tokens_per_pass() - before.tokens_per_pass();
    }
}

Load DraftLength::load() const {
    const int n = std::max(n_choosing_ - 1, 0);
    const double fixed_rows = n_fixed_ * fixed_.rows, fixed_tokens = n_fixed_ * fixed_.tokens;
    const double rows = std::max(n * choosing_.rows + moved_rows_, double(n));  // a row of each
    const double tokens = std::max(n * choosing_.tokens + moved_tokens_, 0.0);
    return {rows + fixed_rows, tokens + fixed_tokens, n, fixed_rows, fixed_tokens};
}

std::vector<Cycle> DraftLength::candidates(const CycleChoice & choice) const {
    std::vector<Cycle> result;
    for (const int length : choice.length > 0 ? std::vector<int>{choice.length} : lengths_) {
        if (length == 1 || choice.fusing != Fusing::always) {
            result.push_back({length, false, choice.tree && length > 1});
        }
        if (length > 1 && choice.fusing != Fusing::never) {
            result.push_back({length, true});
        }
    }
    return result;
}

Estimates DraftLength::estimates(const Acceptance & acceptance, const Load & load, double rate) const {
    return {cost_, acceptance, load, after_rejection_, rate};
}

// What a cycle comes to, where time is worth `rate` tokens per second (0: not known).
Expectation DraftLength::expect(const Cycle & cycle, const Acceptance & acceptance, const Load & load,
                                double rate) const {
    if (cycle.fused) {
        return expect_fused(estimates(acceptance, load, rate), cycle.length);
    }
    if (cycle.tree) {
        return {acceptance.tokens(cycle.length) * tree_tokens_ + 2.0 * load.tokens, 1.0,
                cycle.length * tree_rows_ + load.rows, 1.0, cycle.length + load.rows};
    }
    const double passes = cycle.length > 1 ? 2.0 : 1.0;
    return {acceptance.tokens(cycle.length) + passes * load.tokens, 0.0, 0.0, passes, cycle.length + load.rows};
}

double DraftLength::rate(const Cycle & cycle, const Acceptance & acceptance, const Load & load) const {
    return expect(cycle, acceptance, load, 0.0).rate(cost_);
}

std::vector<Branch> DraftLength::branches(const Cycle & cycle, int n_draft, int first, const Acceptance & acceptance,
                                          const Load & load) const {
    return choose_branches(estimates(acceptance, load, rate(cycle, acceptance, load)), cycle.length, n_draft, first,
                           lengths_);
}

DraftTree DraftLength::tree(const Cycle & cycle, const std::vector<float> & leads, int n_beside, int most_rows,
                            const Acceptance & acceptance, const Load & load) const {
    const int n_draft = static_cast<int>(leads.size());
    if (n_beside >= 0) {
        return beside_chain(nodes_, leads, std::min(n_beside, most_rows - 1 - n_draft));
    }
    if (!knows_enough()) {
        return {n_draft, {}};
    }
    const double rate = this->rate(cycle, acceptance, load);
    const int reach = static_cast<int>(2.0 * cost_.longest_known() - load.rows);
    return choose_tree(nodes_, leads, std::min(most_rows, std::max(reach, n_draft + 1)),
                       [&](int rows) { return rate * cost_.seconds(load.rows + rows); });
}

void DraftLength::observe_tree(const Cycle & cycle, const Acceptance & acceptance, int rows, int tokens) {
    tree_rows_ += (double(rows) / cycle.length - tree_rows_) * TREE_GAIN;
    tree_tokens_ += (tokens / acceptance.tokens(cycle.length) - tree_tokens_) * TREE_GAIN;
}

// From what is known to twice its length: farther away an estimate is worth nothing.
bool DraftLength::in_reach(const Cycle & cycle, double rows) const {
    return cycle.length == 1 || rows <= 2.0 * cost_.longest_known();
}

bool DraftLength::is_known(const Cycle & cycle, double rows) const {
    return cycle.length == 1 || rows <= cost_.longest_known();
}

Cycle DraftLength::best(const Acceptance & acceptance, const Load & load, const CycleChoice & choice) const {
    return best_rated(candidates(choice), acceptance, load).cycle;
}

DraftLength::Rated DraftLength::best_rated(const std::vector<Cycle> & candidates, const Acceptance & acceptance,
                                           const Load & load) const {
    const Rated alone = best_beside(candidates, acceptance, load, /*all_alike=*/false);
    if (load.n_choosing == 0) {
        return alone;
    }
    const Rated together = best_beside(candidates, acceptance, load, /*all_alike=*/true);
    return together.rate > alone.rate ? together : alone;
}

// While the others go on as they do, or all that choose do the same: no further than passes have been seen, as all of
// them would pay for an error.
// Fused cycles twice: what groups behind rejected drafts are worth follows from what time is worth.
DraftLength::Rated DraftLength::best_beside(const std::vector<Cycle> & candidates, const Acceptance & acceptance,
                                            const Load & load, bool all_alike) const {
    Rated best{candidates.front()};
    for (int round = 0; round < 2; ++round) {
        const double worth = best.rate;
        for (const Cycle & cycle : candidates) {
            if (round == 0 || cycle.fused) {
                const Load beside = all_alike ? this->all_alike(cycle, load, worth) : load;
                const Expectation expected = expect(cycle, acceptance, beside, worth);
                const bool known = all_alike ? is_known(cycle, expected.rows) : in_reach(cycle, expected.rows);
                if (expected.rate(cost_) > best.rate && known) {
                    best = {cycle, expected.rate(cost_)};
                }
            }
        }
    }
    return best;
}

// What the others bring to a pass if all that choose take such cycles.
Load DraftLength::all_alike(const Cycle & cycle, const Load & load, double rate) const {
    const Expectation each = expect(cycle, acceptance_, {}, rate);
    return {load.n_choosing * each.rows_per_pass() + load.fixed_rows,
            load.n_choosing * each.tokens_per_pass() + load.fixed_tokens};
}

Cycle DraftLength::choose(const Acceptance & acceptance, const Load & load, const CycleChoice & choice) {
    const std::vector<Cycle> candidates = this->candidates(choice);
    if (!knows_enough()) {
        return first(candidates, load, choice);
    }
    const Rated best = best_rated(candidates, acceptance, load);
    const Trial trial = worth_trying(candidates, acceptance, load, best.rate);
    if (trial.expected.passes == 0.0) {
        return best.cycle;
    }
    // The last trial's passes have been measured by now: what it lost is known better than before it.
    lost_ += loss(trial_);
    trial_ = {};
    if (lost_ + loss(trial) > TRIAL_START * cost_.seconds(1) + TRIAL_SHARE * seconds_) {
        return best.cycle;
    }
    trial_ = trial;
    tried_[{trial.cycle.length, trial.cycle.fused}] = n_passes_;
    return trial.cycle;
}

// Plain AR, then a draft: of a crowd one request's, as a pass in which all draft would cost them many tokens.
Cycle DraftLength::first(const std::vector<Cycle> & candidates, const Load & load, const CycleChoice & choice) {
    Cycle first = candidates.front();
    if (cost_.n_known() == 0 || (load.rows > 0.0 && n_passes_ < next_look_)) {
        return first;
    }
    next_look_ = n_passes_ + LOOK_AGAIN;
    for (const Cycle & cycle : candidates) {
        const bool second = cycle.length <= FIRST_LENGTH && (!cycle.fused || choice.fusing == Fusing::always);
        first = second ? cycle : first;
    }
    return first;
}

// Of the passes that a trial takes, more in a cycle of the best kind.
double DraftLength::loss(const Trial & trial) const {
    const Expectation & expected = trial.expected;
    const double seconds = expected.seconds(cost_) - expected.tokens / trial.best_rate;
    const double passes = expected.first_passes + expected.passes;
    return std::max(seconds, 0.0) * (passes > TRIAL_PASSES ? TRIAL_PASSES / passes : 1.0);
}

// Passes since a cycle was tried, or its number of rows was seen; -1 if neither ever was. A fused cycle that was tried
// need not have had its average number of rows.
int64_t DraftLength::age(const Cycle & cycle, int rows) const {
    const auto tried = tried_.find({cycle.length, cycle.fused});
    const int64_t since = tried == tried_.end() ? -1 : n_passes_ - tried->second;
    if (!cost_.known(rows)) {
        return since;
    }
    return since < 0 ? cost_.age(rows) : std::min(since, cost_.age(rows));
}

// By what factor a cycle may be faster than it seems. A number of rows that was never seen takes no less time than a
// smaller one: the middle between that and the estimate, and more, is assumed.
double DraftLength::optimism(int64_t age, double rows) const {
    if (age < 0) {
        return (1.0 + MAX_OPTIMISM) * std::sqrt(cost_.seconds(rows) / cost_.at_least(rows));
    }
    return 1.0 + std::min(MAX_OPTIMISM, OPTIMISM * std::sqrt(double(age)));
}

// Lengths never seen first, those that promise the most for what they cost; then the one that promises most.
DraftLength::Trial DraftLength::worth_trying(const std::vector<Cycle> & candidates, const Acceptance & acceptance,
                                             const Load & load, double best_rate) const {
    Trial most;
    double most_worth = 0.0;
    for (const Cycle & cycle : candidates) {
        const Trial trial{cycle, expect(cycle, acceptance, load, 0.0), best_rate};
        const double rows = trial.expected.rows;
        const int64_t age = this->age(cycle, static_cast<int>(std::lround(rows)));
        const double gain = trial.expected.rate(cost_) * optimism(age, rows) / best_rate - 1.0;
        const double worth = age >= 0 ? gain : UNKNOWN_FIRST * gain / (1.0 + loss(trial) / cost_.seconds(1.0));
        if (gain > 0.0 && worth > most_worth && in_reach(cycle, rows)) {
            most = trial;
            most_worth = worth;
        }
    }
    return most;
}

}  // namespace trimode
