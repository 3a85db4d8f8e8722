#include "cache/pages.h"

#include <algorithm>
#include <stdexcept>

namespace trimode {

int32_t Pages::take(int32_t above) {
    while (lowest_free_ < size() && holders_[lowest_free_] > 0) {
        ++lowest_free_;
    }
    for (int32_t page = std::max(above + 1, lowest_free_); page < size(); ++page) {
        if (holders_[page] == 0) {
            holders_[page] = 1;
            --n_free_;
            return page;
        }
    }
    return -1;
}

void Pages::hold(int32_t page) {
    if (holders(page) == 0) {
        throw std::logic_error("a free page of the cache was held");
    }
    ++holders_[page];
}

void Pages::drop(int32_t page) {
    if (holders(page) == 0) {
        throw std::logic_error("a page of the cache was dropped twice");
    }
    if (--holders_[page] == 0) {
        ++n_free_;
        lowest_free_ = std::min(lowest_free_, page);
    }
}

}  // namespace trimode
