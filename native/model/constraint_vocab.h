// A model's vocabulary as llguidance takes it, and the grammars compiled for it.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "util/llguidance.h"

namespace trimode {

class Model;

struct FreeMatcher {
    void operator()(llg::Matcher * p) const { llg::api().free_matcher(p); }
};
using MatcherPtr = std::unique_ptr<llg::Matcher, FreeMatcher>;

class ConstraintVocab {
  public:
    // Throws std::runtime_error when llguidance is not there or refuses the vocabulary.
    explicit ConstraintVocab(const Model & model);

    // A matcher at the beginning of a grammar in llguidance's Lark syntax, whose errors and sizes are bounded: a copy
    // of one that was compiled before, if it is still there. Throws std::invalid_argument for one that does not
    // compile.
    MatcherPtr matcher(const std::string & lark);

    // The tokens that end a generation.
    const std::vector<uint32_t> & ends() const { return ends_; }

  private:
    struct FreeTokenizer {
        void operator()(llg::Tokenizer * p) const { llg::api().free_tokenizer(p); }
    };
    using Compiled = std::pair<std::string, MatcherPtr>;
    static constexpr size_t N_KEPT = 16;

    MatcherPtr compile(const std::string & lark) const;
    MatcherPtr copy_of_known(const std::string & lark);

    std::vector<uint32_t> ends_;
    std::unique_ptr<llg::Tokenizer, FreeTokenizer> tokenizer_;
    std::mutex mutex_;
    std::list<Compiled> compiled_;  // the last one used first
};

}  // namespace trimode
