// How often drafts are accepted, by their position in the draft.
#pragma once

#include <algorithm>
#include <vector>

#include "speculation/learned.h"

namespace trimode {

// Rates are conditional: that of position i counts the cycles in which all drafts before it were accepted.
// Counts fade, so that the rates follow the text.
class Acceptance {
  public:
    // Rates to begin with, position 1 first; the last one holds for all positions behind it. `memory`: after so many
    // cycles an observation counts 1/e.
    Acceptance(std::vector<double> prior, double memory);

    // The published acceptance of the 8B model with its LoRA: all drafts of a block of 4, 8, 16, 32 are accepted in
    // 82, 60, 41, 27 % of the cycles (model card and reports of Nemotron-Labs-Diffusion).
    static std::vector<double> published();

    // A cycle had `drafted` drafts verified, of which the first `accepted` were accepted; the first
    // `uncounted` of these say nothing about the rates.
    void observe(int drafted, int accepted, int uncounted = 0);

    // Estimated rate of position 1, 2, ... : all of them, as many as the prior has.
    const std::vector<double> & rates() const { return rates_; }

    // Of position i, 0 being the first.
    double rate(int i) const { return rates_[std::min<size_t>(i, rates_.size() - 1)]; }

    // Expected tokens of a cycle with a block of `length`: the accepted drafts and one token more. `first`: the
    // position of the first draft, those before it being known to be right.
    double tokens(int length, int first = 0) const;

    // The probability that all of `n` drafts are accepted.
    double all(int n, int first = 0) const;

    // Counts, for `restore` of another one with the same prior. There they weigh as much as some cycles. Throws
    // std::invalid_argument, and changes nothing, for what cannot have been counted.
    std::vector<Learned::Share> learned() const;
    void restore(const std::vector<Learned::Share> & drafts);

  private:
    void refit();

    std::vector<double> prior_;  // as logits
    std::vector<double> tried_, accepted_;
    double keep_;         // of the counts, from one cycle to the next
    double shift_ = 0.0;  // of all logits against the prior: what few cycles tell about positions not reached yet
    std::vector<double> rates_;
};

}  // namespace trimode
