// Finds out that an output has become an endless repetition: greedy decoding of small models ends in one now and then.
#pragma once

#include <cstdint>
#include <vector>

#include "llama.h"

namespace trimode {

// A loop of period p is a tail of max(window, min_repeats * p) tokens or more in which each token equals the one p
// before it, for p up to a third of the window. A real loop never ends, so waiting costs only time, while a false alarm
// cuts a table short: by default a period of 1 has to come 900 times, one of 200 four and a half times.
class LoopDetector {
  public:
    // From tests/support/loop_corpus.py: of 4,000 texts that end, 17 hold 600 such tokens, 6 hold 750 (a 16 x 16 matrix
    // of zeros 800, and 816 with a token per byte), none 900. Few copies of a long period are a form, not a loop.
    static constexpr int WINDOW = 900;
    static constexpr int MIN_REPEATS = 4;

    // Throws std::invalid_argument for a window below 3 or min_repeats below 2.
    explicit LoopDetector(int window = WINDOW, int min_repeats = MIN_REPEATS);

    // The next token of the output, not negative. True while the output ends in a loop.
    bool push(llama_token token);

    // The shortest period of the loop, 0 outside one.
    int period() const { return period_; }

    // How many tokens at the end repeat what came before: dropping them leaves one copy. 0 outside a loop.
    int repeated() const { return period_ == 0 ? 0 : runs_[runs_.size() - period_]; }

    void reset();

  private:
    // Indexed like the tokens they are compared with, oldest first: entry [size - p] belongs to period p.
    std::vector<int32_t> runs_;    // for how many tokens now token[i] == token[i - p]
    std::vector<int32_t> needed_;  // length of such a run that makes it a loop
    // The longest period's worth of tokens lies in one piece before end_; moved to the front when the end is reached.
    std::vector<llama_token> tokens_;
    size_t end_ = 0;
    int period_ = 0;
};

}  // namespace trimode
