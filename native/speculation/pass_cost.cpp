#include "speculation/pass_cost.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace trimode {

namespace {

constexpr int EXACT = 64;  // every length up to here has a bucket of its own
constexpr int PER_DOUBLING = 8;
constexpr int MAX_DOUBLINGS = 10;
constexpr int SETTLED = 4;  // observations of a length before it says something about the speed
constexpr double SPEED_GAIN = 0.05;
constexpr double SHAPE_GAIN = 0.02;  // at least; 1 / n before
constexpr double OUTLIER = 0.3;      // a single pass moves an estimate by no more than this factor tells (log)
constexpr double MAX_WEIGHT = 50.0;  // of a length in the rising fit
constexpr int FIRST = 3;             // observations of a length that are kept one by one
constexpr double MAX_PRIOR = 8.0;    // passes: what a length weighs in the fit that was restored
constexpr double LONGEST = 86400.0;  // seconds of a pass

}  // namespace

PassCost::PassCost(std::vector<int> steps) : steps_(std::move(steps)) {
    for (int rows = 1; rows <= EXACT; ++rows) {
        buckets_.push_back({rows});
    }
    for (int step = 1; step <= MAX_DOUBLINGS * PER_DOUBLING; ++step) {
        const int doubling = (step - 1) / PER_DOUBLING;
        const int width = (EXACT << doubling) / PER_DOUBLING;
        buckets_.push_back({buckets_.back().rows + width});
    }
}

double PassCost::padded(double rows) const {
    const auto step = std::lower_bound(steps_.begin(), steps_.end(), rows);
    return step == steps_.end() ? rows : *step;
}

int PassCost::bucket(int rows) {
    if (rows <= EXACT) {
        return std::max(rows, 1) - 1;
    }
    int doubling = 0;
    while (doubling + 1 < MAX_DOUBLINGS && rows > (EXACT << (doubling + 1))) {
        ++doubling;
    }
    const int width = (EXACT << doubling) / PER_DOUBLING;
    const int step = (rows - (EXACT << doubling) + width - 1) / width;
    return EXACT - 1 + doubling * PER_DOUBLING + std::min(step, PER_DOUBLING);
}

void PassCost::observe(int rows, double seconds) {
    rows = padded(rows);
    Bucket & b = buckets_[bucket(rows)];
    b.last = ++n_passes_;
    n_known_ += b.count == 0;
    longest_known_ = std::max(longest_known_, b.rows);
    curve_.clear();
    if (b.n_first < FIRST) {
        // The first pass of a length may be slow for reasons of its own: the lower of two, the median of three.
        b.first[b.n_first++] = seconds / speed_;
        std::sort(b.first, b.first + b.n_first);
        if (b.n_first == FIRST || b.count < FIRST) {  // what was restored holds until then
            b.count = b.n_first;
            b.mean_rows += (rows - b.mean_rows) / double(b.count);
            b.shape = b.first[b.count == FIRST ? 1 : 0];
        }
        return;
    }
    b.mean_rows += (rows - b.mean_rows) * SHAPE_GAIN;
    const double surprise = std::clamp(std::log(seconds / (speed_ * b.shape)), -OUTLIER, OUTLIER);
    ++b.count;
    b.shape *= std::exp(surprise * std::max(SHAPE_GAIN, 1.0 / double(b.count)));
    if (b.count > SETTLED) {
        speed_ *= std::exp(surprise * SPEED_GAIN);
    }
}

int64_t PassCost::age(int rows) const { return n_passes_ - buckets_[bucket(padded(rows))].last; }

// Pool adjacent violators: where a longer pass was measured as faster, both get their weighted mean.
// Barlow et al., Statistical Inference under Order Restrictions, 1972.
void PassCost::refit() const {
    struct Pool {
        double weight, shape;
        int n;
    };
    const auto n_known =
        std::count_if(buckets_.begin(), buckets_.end(), [](const Bucket & b) { return b.count >= KNOWN; });
    const int least = n_known >= LINE ? KNOWN : 1;
    std::vector<Pool> pools;
    for (const Bucket & b : buckets_) {
        if (b.count < least) {
            continue;
        }
        pools.push_back({std::min(double(b.count), MAX_WEIGHT), b.shape, 1});
        while (pools.size() > 1 && pools[pools.size() - 2].shape > pools.back().shape) {
            const Pool last = pools.back();
            pools.pop_back();
            Pool & into = pools.back();
            into.shape = (into.shape * into.weight + last.shape * last.weight) / (into.weight + last.weight);
            into.weight += last.weight;
            into.n += last.n;
        }
    }
    size_t pool = 0;
    int taken = 0;
    for (const Bucket & b : buckets_) {
        if (b.count < least) {
            continue;
        }
        curve_.push_back({b.mean_rows, pools[pool].shape});
        if (++taken == pools[pool].n) {
            ++pool;
            taken = 0;
        }
    }
}

double PassCost::at_least(double rows) const {
    rows = padded(rows);
    if (curve_.empty()) {
        refit();
    }
    const auto above = std::upper_bound(curve_.begin(), curve_.end(), rows,
                                        [](double value, const Point & point) { return value < point.rows; });
    return above == curve_.begin() ? 0.0 : speed_ * (above - 1)->seconds;
}

double PassCost::seconds(double rows) const {
    rows = padded(rows);
    if (curve_.empty()) {
        refit();
    }
    if (curve_.empty()) {
        return 0.0;
    }
    const auto above = std::lower_bound(curve_.begin(), curve_.end(), rows,
                                        [](const Point & point, double value) { return point.rows < value; });
    if (curve_.size() == 1 || above == curve_.begin()) {
        return speed_ * curve_.front().seconds;
    }
    const Point & right = above == curve_.end() ? curve_.back() : *above;
    const Point & left = *(&right - 1);
    const double slope = (right.seconds - left.seconds) / (right.rows - left.rows);
    return speed_ * (right.seconds + slope * (rows - right.rows));
}

std::vector<PassCost::Point> PassCost::table() const {
    std::vector<Point> points;
    for (const Bucket & b : buckets_) {
        if (b.count > 0) {
            points.push_back({b.mean_rows, speed_ * b.shape});
        }
    }
    return points;
}

std::vector<Learned::Pass> PassCost::learned() const {
    std::vector<Learned::Pass> passes;
    for (const Bucket & b : buckets_) {
        if (b.count >= FIRST) {
            passes.push_back({b.mean_rows, speed_ * b.shape, double(b.count)});
        }
    }
    return passes;
}

void PassCost::restore(const std::vector<Learned::Pass> & passes) {
    PassCost restored(steps_);
    for (const auto & [rows, seconds, count] : passes) {
        const bool possible = 1.0 <= rows && rows <= buckets_.back().rows && 0.0 < seconds && seconds <= LONGEST &&
                              FIRST <= count && std::isfinite(count);
        Bucket * const b = possible ? &restored.buckets_[bucket(static_cast<int>(std::lround(rows)))] : nullptr;
        if (!b || b->count > 0) {
            throw std::invalid_argument("no " + std::to_string(count) + " passes of " + std::to_string(rows) +
                                        " rows can have been seen that take " + std::to_string(seconds) + " s" +
                                        (b ? " beside others of so many" : ""));
        }
        b->mean_rows = rows;
        b->shape = seconds;
        b->count = static_cast<int64_t>(std::min(count, MAX_PRIOR));
        ++restored.n_known_;
        restored.longest_known_ = std::max(restored.longest_known_, b->rows);
    }
    *this = std::move(restored);
}

}  // namespace trimode
