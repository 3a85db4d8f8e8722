#include "decoders/thinking.h"

namespace trimode {

ThinkingBudget::ThinkingBudget(const std::vector<llama_token> & prompt, llama_token begin, llama_token end, int limit)
    : begin_(begin), end_(end), limit_(end < 0 ? -1 : limit) {
    for (const llama_token token : prompt) {
        open_ = token == begin_ || (open_ && token != end_);
    }
    open_ = open_ && begin_ >= 0;
}

void ThinkingBudget::push(llama_token token) {
    if (token == end_) {
        open_ = false;
    } else if (token == begin_) {
        open_ = true;
    } else {
        used_ += open_;
    }
}

}  // namespace trimode
