// llama.cpp's grammar behind the tokens so far, asked about some tokens or the whole vocabulary.
#pragma once

#include <string>
#include <vector>

#include "sampling/stock_sampler.h"

namespace trimode {

class Model;

class Grammar {
  public:
    // GBNF with a rule "root". Throws std::invalid_argument where it does not parse.
    Grammar(const Model & model, const std::string & gbnf);
    Grammar(const Grammar & other);
    Grammar & operator=(const Grammar &) = delete;

    // Drops the candidates that may not come next.
    void filter(std::vector<llama_token_data> & candidates) const;

    // Sets the logits of all tokens that may not come next to -infinity. Asks about beginnings first: most tokens are
    // refused or not with the first byte.
    void mask(float * logits) const;

    // Throws std::runtime_error for a token that is not allowed.
    void accept(llama_token token);

  private:
    struct Walk;

    // Whether llama.cpp really accepts a token that it has not refused. Where a grammar names tokens, it also lets
    // those pass that would match a name from the middle of their text on: </think> for "<" </think>.
    bool takes(llama_token token) const;

    const Model & model_;
    bool by_text_;  // false: it names tokens, whose text says nothing
    StockSampler state_;
};

}  // namespace trimode
