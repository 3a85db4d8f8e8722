#include "sampling/options.h"

#include <cmath>
#include <stdexcept>

namespace trimode {

namespace {

void require(bool holds, const char * name, double value, const char * range) {
    if (!holds) {
        throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + "; it must be " + range);
    }
}

}  // namespace

void SamplerOptions::check() const {
    require(std::isfinite(temperature) && temperature >= 0.0f, "temperature", temperature, "0 (greedy) or more");
    require(top_p >= 0.0f && top_p <= 1.0f, "top_p", top_p, "between 0 and 1");
    require(min_p >= 0.0f && min_p <= 1.0f, "min_p", min_p, "between 0 and 1");
    require(typical_p >= 0.0f && typical_p <= 1.0f, "typical_p", typical_p, "between 0 and 1");
    require(repeat_penalty > 0.0f, "repeat_penalty", repeat_penalty, "more than 0 (1: off)");
    require(std::isfinite(frequency_penalty), "frequency_penalty", frequency_penalty, "finite");
    require(std::isfinite(presence_penalty), "presence_penalty", presence_penalty, "finite");
    require(penalty_last_n >= 0, "penalty_last_n", penalty_last_n, "0 or more");
    require(min_tokens >= 0, "min_tokens", min_tokens, "0 or more");
    require(dry_multiplier >= 0.0f, "dry_multiplier", dry_multiplier, "0 (off) or more");
}

}  // namespace trimode
