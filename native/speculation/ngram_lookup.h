// Drafts for nothing: where the last tokens stood before in a request's own text, what followed them there.
// The idea is prompt lookup decoding (Saxena 2023) and LLMA (Yang et al. 2023, https://arxiv.org/abs/2304.04487).
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "llama.h"

namespace trimode {

class NgramLookup {
  public:
    static constexpr int MIN_MATCH = 3;   // tokens: fewer stand before too often, and predict too little
    static constexpr int MAX_MATCH = 32;  // longer matches are not told apart

    // Ids from `n_vocab` on (rows of images) and `mask` are never drafted.
    NgramLookup(int n_vocab, llama_token mask);

    // The text goes on; what follows it is not looked for, as in a prompt.
    void add(llama_token token);

    // The same, and looked for.
    void push(llama_token token);

    // How many tokens at the end stood before, MAX_MATCH at most; 0: fewer than MIN_MATCH.
    int match() const { return match_; }

    // What followed the longest match, at most `n` tokens, as if the text repeated for as long. Among matches of that
    // length the most frequent next token decides, then the last place.
    std::vector<llama_token> draft(int n) const;

  private:
    void find(int followed);
    int match_before(int place) const;

    int n_vocab_;
    llama_token mask_;
    std::vector<llama_token> tokens_;
    std::unordered_map<uint64_t, int> places_;  // by MIN_MATCH tokens: the place behind them, the last one
    std::vector<int> earlier_;                  // of each place, the one before it behind the same tokens; -1: none
    int source_ = -1;                           // the place whose tokens are drafted
    int match_ = 0;
};

}  // namespace trimode
