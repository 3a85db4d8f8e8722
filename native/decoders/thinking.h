// A budget of reasoning tokens: when it is spent, the token that ends the reasoning must come next.
#pragma once

#include <vector>

#include "llama.h"

namespace trimode {

class ThinkingBudget {
  public:
    // `begin`, `end`: the tokens around reasoning (-1: the model has none); `limit` < 0: no budget.
    // Reasoning is open from the start if the prompt ends inside it.
    ThinkingBudget(const std::vector<llama_token> & prompt, llama_token begin, llama_token end, int limit);

    // The next token of the output.
    void push(llama_token token);

    // The token that has to come next; -1: any.
    llama_token forced() const { return open_ && limit_ >= 0 && used_ >= limit_ ? end_ : -1; }

  private:
    llama_token begin_, end_;
    int limit_;
    bool open_ = false;
    int used_ = 0;  // tokens of reasoning in the output, over all its parts
};

}  // namespace trimode
