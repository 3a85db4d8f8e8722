#include "draft_length.h"

#include <algorithm>
#include <cmath>

namespace trimode {

namespace {

constexpr int LENGTHS[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64};
constexpr int FIRST_LENGTH = 8;       // the second one measured, after plain AR: two points make a line
constexpr double TRIAL_SHARE = 0.01;  // of all time that trials may lose ...
constexpr double TRIAL_START = 8.0;   // ... and so many shortest passes, to begin with
constexpr double MAX_HOPE = 0.6;      // a length not seen for long may be faster by this than it seems
constexpr double HOPE = 0.02;         // times the square root of the passes since
constexpr double CROWD_GAIN = 0.05;
constexpr double UNKNOWN_FIRST = 1e6;
constexpr double LONG_MEMORY = 500.0;  // cycles, of all requests
constexpr double MEMORY = 60.0;        // cycles, of one

int passes(int length) { return length > 1 ? 2 : 1; }

}  // namespace

DraftLength::DraftLength(int max_length, std::vector<double> prior) : acceptance_(std::move(prior), LONG_MEMORY) {
    for (const int length : LENGTHS) {
        if (length <= std::max(max_length, 1)) {
            lengths_.push_back(length);
        }
    }
}

Acceptance DraftLength::new_request() const { return Acceptance(acceptance_.rates(), MEMORY); }

void DraftLength::observe_pass(int rows, double seconds) {
    if (rows > 0 && seconds > 0.0) {
        cost_.observe(rows, seconds);
        seconds_ += seconds;
    }
}

void DraftLength::observe_crowd(int n_requests, int rows, int tokens) {
    n_requests_ = std::max(n_requests, 1);
    mean_rows_ += (double(rows) / n_requests_ - mean_rows_) * CROWD_GAIN;
    mean_tokens_ += (double(tokens) / n_requests_ - mean_tokens_) * CROWD_GAIN;
}

double DraftLength::expected_tokens(int length, const Acceptance & acceptance, const Load & load) const {
    return acceptance.tokens(length) / passes(length) + load.tokens;
}

double DraftLength::rate(int length, const Acceptance & acceptance, const Load & load) const {
    const double seconds = cost_.seconds(length + load.rows);
    return seconds > 0.0 ? expected_tokens(length, acceptance, load) / seconds : 0.0;
}

// From what is known to twice its length: farther away an estimate is worth nothing.
bool DraftLength::in_reach(int length, const Load & load) const {
    return length == 1 || length + load.rows <= 2.0 * cost_.longest_known();
}

int DraftLength::best(const Acceptance & acceptance, const Load & load) const {
    int best = lengths_.front();
    double best_rate = 0.0;
    for (const int length : lengths_) {
        const double rate = this->rate(length, acceptance, load);
        if (rate > best_rate && in_reach(length, load)) {
            best = length;
            best_rate = rate;
        }
    }
    return best;
}

int DraftLength::choose(const Acceptance & acceptance, const Load & load) {
    switch (cost_.n_known()) {
        case 0:
            return lengths_.front();
        case 1:
            return *(std::upper_bound(lengths_.begin(), lengths_.end(), FIRST_LENGTH) - 1);
    }
    const int best = this->best(acceptance, load);
    const double best_rate = rate(best, acceptance, load);
    const int other = worth_trying(acceptance, load, best_rate);
    if (other == 0) {
        return best;
    }
    // The last trial's passes have been measured by now: what it lost is known better than before it.
    lost_ += trial_.length > 0 ? loss(trial_) : 0.0;
    trial_ = {};
    const Trial trial{other, expected_tokens(other, acceptance, load), best_rate, load};
    if (lost_ + loss(trial) > TRIAL_START * cost_.seconds(1) + TRIAL_SHARE * seconds_) {
        return best;
    }
    trial_ = trial;
    return other;
}

double DraftLength::loss(const Trial & trial) const {
    const double seconds = cost_.seconds(trial.length + trial.load.rows) - trial.tokens / trial.best_rate;
    return passes(trial.length) * std::max(seconds, 0.0);
}

// By what factor a length may be faster than it seems. One that was never seen is no faster than a shorter one: the
// middle between that and the estimate, and more, is hoped for.
double DraftLength::hope(double rows) const {
    const int whole = static_cast<int>(std::lround(rows));
    if (!cost_.known(whole)) {
        return (1.0 + MAX_HOPE) * std::sqrt(cost_.seconds(rows) / cost_.at_least(rows));
    }
    return 1.0 + std::min(MAX_HOPE, HOPE * std::sqrt(double(cost_.age(whole))));
}

// Lengths never seen first, those that promise the most for what they cost; then the one that promises most.
int DraftLength::worth_trying(const Acceptance & acceptance, const Load & load, double best_rate) const {
    int most = 0;
    double most_worth = 0.0;
    for (const int length : lengths_) {
        const double rows = length + load.rows;
        const double tokens = expected_tokens(length, acceptance, load);
        const double gain = tokens / cost_.seconds(rows) * hope(rows) / best_rate - 1.0;
        const bool known = cost_.known(static_cast<int>(std::lround(rows)));
        const double lost = loss({length, tokens, best_rate, load}) / cost_.seconds(1.0);
        const double worth = known ? gain : UNKNOWN_FIRST * gain / (1.0 + lost);
        if (gain > 0.0 && worth > most_worth && in_reach(length, load)) {
            most = length;
            most_worth = worth;
        }
    }
    return most;
}

}  // namespace trimode
