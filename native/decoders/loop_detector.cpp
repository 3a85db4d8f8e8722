#include "decoders/loop_detector.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace trimode {

namespace {

// The first copy of a loop repeats nothing, hence one period less than the length of its tail.
int32_t needed_run(int window, int min_repeats, int period) {
    const int64_t tail = std::max<int64_t>(window, static_cast<int64_t>(min_repeats) * period);
    return static_cast<int32_t>(std::min<int64_t>(tail - period, std::numeric_limits<int32_t>::max()));
}

}  // namespace

LoopDetector::LoopDetector(int window, int min_repeats) {
    if (window < 3) {
        throw std::invalid_argument("loop window " + std::to_string(window) +
                                    ": must be at least 3, periods up to a third of it are found");
    }
    if (min_repeats < 2) {
        throw std::invalid_argument("loop repeats " + std::to_string(min_repeats) + ": must be at least 2");
    }
    const int longest = window / 3;
    for (int period = longest; period > 0; --period) {
        needed_.push_back(needed_run(window, min_repeats, period));
    }
    runs_.resize(longest);
    tokens_.resize(2 * static_cast<size_t>(longest));
    reset();
}

void LoopDetector::reset() {
    // Equals no token: the next one ends every run.
    std::fill(tokens_.begin(), tokens_.end(), LLAMA_TOKEN_NULL);
    end_ = runs_.size();
    period_ = 0;
}

// One comparison per period and token, in a loop without branches that compilers vectorize.
bool LoopDetector::push(llama_token token) {
    const size_t longest = runs_.size();
    if (end_ == tokens_.size()) {
        std::copy(tokens_.end() - longest, tokens_.end(), tokens_.begin());
        end_ = longest;
    }
    const llama_token * previous = tokens_.data() + end_ - longest;
    int32_t * runs = runs_.data();
    const int32_t * needed = needed_.data();
    int32_t found = 0;
    for (size_t i = 0; i < longest; ++i) {
        runs[i] = previous[i] == token ? runs[i] + 1 : 0;
        found |= runs[i] >= needed[i];
    }
    tokens_[end_++] = token;
    period_ = 0;
    for (size_t period = 1; found && period_ == 0; ++period) {
        period_ = runs[longest - period] >= needed[longest - period] ? static_cast<int>(period) : 0;
    }
    return period_ != 0;
}

}  // namespace trimode
