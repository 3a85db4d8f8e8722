#include "decoders/stop_strings.h"

#include <algorithm>
#include <stdexcept>

namespace trimode {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
    for (const std::string & s : strings_) {
        if (s.empty()) {
            throw std::invalid_argument("a stop string must not be empty");
        }
        longest_ = std::max(longest_, s.size());
    }
}

bool StopStrings::push(const std::string & piece) {
    if (strings_.empty()) {
        return false;
    }
    tail_ += piece;
    const bool found = std::any_of(strings_.begin(), strings_.end(),
                                   [&](const std::string & s) { return tail_.find(s) != std::string::npos; });
    tail_.erase(0, tail_.size() - std::min(tail_.size(), longest_ - 1));
    return found;
}

}  // namespace trimode
