// How often what followed the same tokens before follows them again, by how many were the same.
#pragma once

#include <array>
#include <vector>

#include "speculation/learned.h"

namespace trimode {

// Learned from every emitted token that had a match, whether or not it was drafted, so nothing has to be tried.
// Counts fade, so that the rates follow the text.
class NgramAcceptance {
  public:
    // After `memory` observations of a length one counts 1/e.
    explicit NgramAcceptance(double memory);

    // The rates of another one, to begin with.
    NgramAcceptance(const NgramAcceptance & prior, double memory);

    // Behind a match of so many tokens stood what followed it before, or something else.
    void observe(int match, bool right);

    // The probability that the next token is the one that followed a match of so many tokens.
    double rate(int match) const;

    // Expected tokens of a verification of `n` drafts behind such a match: those accepted, and one more. Each token
    // that proves right makes the match longer.
    double tokens(int match, int n) const;

    // As those of Acceptance.
    std::vector<Learned::Share> learned() const;
    void restore(const std::vector<Learned::Share> & ngrams);

  private:
    static constexpr int N_LENGTHS = 6;
    static int length(int match);

    double keep_;
    std::array<double, N_LENGTHS> prior_, tried_{}, right_{};
};

}  // namespace trimode
