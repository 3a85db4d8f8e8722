// A grammar behind the tokens so far: which tokens may come next. llguidance's matcher, with a budget.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama.h"
#include "model/constraint_vocab.h"

namespace trimode {

class Model;

class Constraint {
  public:
    // `lark`: a grammar in llguidance's syntax. `after`: the token behind which it begins, before which anything but an
    // end may come; -1: at once. Throws std::invalid_argument where it does not parse.
    Constraint(const Model & model, const std::string & lark, llama_token after);

    // All of these throw std::runtime_error when a row costs more than a grammar may.
    bool allows(llama_token token);

    // Sets the logits of all tokens that may not come next to -infinity.
    void mask(float * logits);

    // Throws std::runtime_error for a token that is not allowed.
    void accept(llama_token token);

    // The same for a guess, which rollback() takes back: false, and nothing else, for a token that is not allowed.
    bool try_out(llama_token token);
    void rollback();

  private:
    bool consume(llama_token token);
    void fail() const;
    template <typename Work>
    auto within_budget(Work work);

    const Model & model_;
    MatcherPtr matcher_;
    llama_token after_;               // -1: the grammar holds
    llama_token guessed_after_ = -1;  // what after_ was before a guess ended it
    size_t n_guessed_ = 0;            // tokens that the matcher has taken for guesses
    size_t n_accepted_ = 0;
    double seconds_ = 0.0;  // of a processor, so far
    std::vector<uint32_t> bits_;
};

}  // namespace trimode
