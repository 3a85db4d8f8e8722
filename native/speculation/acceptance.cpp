#include "speculation/acceptance.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace trimode {

namespace {

constexpr double PRIOR_CYCLES = 4.0;  // what the (shifted) prior of a position weighs, in cycles
constexpr double SHIFT_SPREAD = 1.5;  // standard deviation of the shift, in logits, over texts
constexpr double FOLLOW = 0.15;       // share of a position's own shift that those behind it have too
constexpr double MAX_LOGIT = 7.0;
constexpr int NEWTON_STEPS = 2;     // each time: the shift moves little from one cycle to the next
constexpr int FITS = 8;             // from nothing
constexpr double MAX_PRIOR = 60.0;  // cycles that the counts of another engine weigh

double logit(double p) { return std::clamp(std::log(p / (1.0 - p)), -MAX_LOGIT, MAX_LOGIT); }
double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }

}  // namespace

Acceptance::Acceptance(std::vector<double> prior, double memory)
    : prior_(std::move(prior)),
      tried_(prior_.size()),
      accepted_(prior_.size()),
      keep_(std::exp(-1.0 / memory)),
      rates_(prior_) {
    if (prior_.empty() || !(memory > 0.0)) {
        throw std::invalid_argument("the acceptance of drafts needs a prior and a memory");
    }
    for (double & p : prior_) {
        if (!(p >= 0.0 && p <= 1.0)) {
            throw std::invalid_argument("a rate of acceptance is a number between 0 and 1, not " + std::to_string(p));
        }
        p = logit(p);
    }
}

std::vector<double> Acceptance::published() {
    const struct {
        int length;
        double all;
    } FULL[] = {{1, 1.0}, {4, 0.82}, {8, 0.60}, {16, 0.41}, {32, 0.27}};
    std::vector<double> rates;
    for (int i = 1; i < 5; ++i) {
        const int n = FULL[i].length - FULL[i - 1].length;
        rates.insert(rates.end(), n, std::pow(FULL[i].all / FULL[i - 1].all, 1.0 / n));
    }
    return rates;
}

void Acceptance::observe(int drafted, int accepted, int uncounted) {
    const int n = static_cast<int>(prior_.size());
    for (int i = 0; i < n; ++i) {
        tried_[i] *= keep_;
        accepted_[i] *= keep_;
    }
    for (int i = uncounted; i < std::min(drafted, accepted + 1); ++i) {
        const int at = std::min(i, n - 1);
        tried_[at] += 1.0;
        accepted_[at] += i < accepted;
    }
    refit();
}

// The shift is the most likely one given all counts; each position then weighs its own counts against its shifted
// prior, and the shift of those behind it follows what it tells.
void Acceptance::refit() {
    const size_t n = prior_.size();
    for (int step = 0; step < NEWTON_STEPS; ++step) {
        double slope = -shift_ / (SHIFT_SPREAD * SHIFT_SPREAD);
        double curvature = 1.0 / (SHIFT_SPREAD * SHIFT_SPREAD);
        for (size_t i = 0; i < n; ++i) {
            const double p = logistic(prior_[i] + shift_);
            slope += accepted_[i] - tried_[i] * p;
            curvature += tried_[i] * p * (1.0 - p);
        }
        shift_ = std::clamp(shift_ + std::clamp(slope / curvature, -1.0, 1.0), -MAX_LOGIT, MAX_LOGIT);
    }
    double shift = shift_;
    for (size_t i = 0; i < n; ++i) {
        const double p = logistic(prior_[i] + shift);
        rates_[i] = (PRIOR_CYCLES * p + accepted_[i]) / (PRIOR_CYCLES + tried_[i]);
        shift += FOLLOW * (logit(rates_[i]) - prior_[i] - shift);
    }
}

double Acceptance::tokens(int length, int first) const {
    double all = 1.0;
    double sum = 1.0;
    for (int i = 0; i + 1 < length; ++i) {
        all *= rate(first + i);
        sum += all;
    }
    return sum;
}

double Acceptance::all(int n, int first) const {
    double all = 1.0;
    for (int i = 0; i < n; ++i) {
        all *= rate(first + i);
    }
    return all;
}

std::vector<Learned::Share> Acceptance::learned() const {
    std::vector<Learned::Share> drafts;
    for (size_t i = 0; i < prior_.size(); ++i) {
        drafts.push_back({tried_[i], accepted_[i]});
    }
    return drafts;
}

void Acceptance::restore(const std::vector<Learned::Share> & drafts) {
    const std::vector<Learned::Share> shares = as_prior(drafts, prior_.size(), MAX_PRIOR, "accepted drafts");
    for (size_t i = 0; i < shares.size(); ++i) {
        tried_[i] = shares[i][0];
        accepted_[i] = shares[i][1];
    }
    shift_ = 0.0;
    for (int fit = 0; fit < FITS; ++fit) {
        refit();
    }
}

}  // namespace trimode
