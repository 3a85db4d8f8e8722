#include "engine/thread_choice.h"

#include <algorithm>
#include <cmath>

namespace trimode {

namespace {

constexpr int MAX_DOUBLINGS = 16;
constexpr double STRETCH = 0.03;        // seconds of passes that one figure comes from: some slices of the scheduler
constexpr double FIRST_INTERVAL = 0.5;  // seconds from one trial to the next, at first, but at least ...
constexpr double TRIAL_SHARE = 32.0;    // ... so many times what the pass of a trial may take
constexpr double MAX_GROWTH = 32.0;     // of the interval while the choice stays
constexpr double SLOWER = 1.5;          // than of late: something has changed
constexpr double MARGIN = 0.95;         // all threads are taken again where they need so much of the time of one
constexpr double BLEND = 0.3;           // of a new figure

void blend(double & figure, double value) { figure = figure > 0.0 ? figure + BLEND * (value - figure) : value; }

}  // namespace

ThreadChoice::ThreadChoice(int n_threads, bool measured)
    : n_threads_(n_threads), measured_(measured && n_threads > 1), buckets_(MAX_DOUBLINGS + 1) {}

int ThreadChoice::index(int rows) {
    int doublings = 0;
    while (doublings < MAX_DOUBLINGS && (1 << doublings) < rows) {
        ++doublings;
    }
    return doublings;
}

int ThreadChoice::choose(int rows) const {
    const Bucket & b = bucket(rows);
    return measured_ && b.use_one != b.trial ? 1 : n_threads_;
}

void ThreadChoice::observe(int rows, double seconds) {
    if (!measured_) {
        return;
    }
    Bucket & b = buckets_[index(rows)];
    ++b.n_passes;
    b.seconds += seconds;
    if (b.seconds < STRETCH) {
        return;
    }
    const double mean = b.seconds / b.n_passes;
    b.waited += b.seconds;
    b.n_passes = 0;
    b.seconds = 0.0;
    if (!b.started) {
        b.started = true;
    } else if (b.trial) {
        end_trial(b, mean);
    } else {
        end_stretch(b, mean);
    }
}

void ThreadChoice::end_stretch(Bucket & b, double mean) {
    double & known = b.use_one ? b.one : b.all;
    if (known > 0.0 && mean > SLOWER * known) {
        b.growth = 1.0;
    }
    blend(known, mean);
    const double least = std::max(FIRST_INTERVAL, TRIAL_SHARE * n_threads_ * mean);
    b.trial = b.waited >= (least > FIRST_INTERVAL ? std::max(b.growth, 1.0) : b.growth) * least;
}

// A trial is compared with what the choice has taken of late: the machine may have become another one since the last.
void ThreadChoice::end_trial(Bucket & b, double mean) {
    const bool change = b.use_one ? mean < MARGIN * b.one : mean <= b.all;
    (b.use_one ? b.all : b.one) = mean;
    b.use_one = b.use_one != change;
    b.growth = change ? 1.0 : std::clamp(2.0 * b.growth, 1.0, MAX_GROWTH);
    b.trial = false;
    b.waited = 0.0;
}

}  // namespace trimode
