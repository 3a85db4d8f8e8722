#include "speculation/simulated.h"

#include <cmath>
#include <stdexcept>
#include <string>

namespace trimode {

namespace {

constexpr double SURE = 1e-6;  // no chance is nearer to 0 or 1

double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double logit(double p) { return std::log(p / (1.0 - p)); }

}  // namespace

double SimulatedAcceptance::chance(uint64_t seed, int32_t position, int i, bool strayed) const {
    if (centres.empty() && !strayed) {
        return rate(i);
    }
    double odds = logit(std::clamp(rate(i), SURE, 1.0 - SURE));
    if (!centres.empty()) {
        // Box and Muller 1958: a normal variate.
        const double radius = std::sqrt(-2.0 * std::log(uniform(seed, position, Draw::simulated, 3)));
        const double z = radius * std::cos(2.0 * M_PI * uniform(seed, position, Draw::simulated, 4));
        odds = centres[std::min<size_t>(i, centres.size() - 1)] + spread * z;
    }
    return logistic(odds - (strayed ? this->strayed : 0.0));
}

float SimulatedAcceptance::lead(uint64_t seed, int32_t position, int i) const {
    const double p = std::clamp(chance(seed, position, i), SURE, 1.0 - SURE);
    return static_cast<float>(std::log(p / (second * (1.0 - p))));
}

void SimulatedAcceptance::check() const {
    const auto check_rate = [](double rate) {
        if (!(rate >= 0.0 && rate <= 1.0)) {
            throw std::invalid_argument("simulated acceptance is a number between 0 and 1, not " +
                                        std::to_string(rate));
        }
    };
    check_rate(after_rejection);
    check_rate(second);
    if (!(spread >= 0.0) || !(strayed >= 0.0) || (!centres.empty() && centres.size() != rates.size())) {
        throw std::invalid_argument(
            "simulated acceptance: spread and strayed are 0 or more, and as many centres as rates");
    }
    for (const double rate : rates) {
        check_rate(rate);
    }
}

}  // namespace trimode
