// Linear self-speculation: a block pass drafts (drafter LoRA on), a causal pass verifies (off).
// The longest prefix of the draft that verification accepts is emitted, plus one more token from the verify logits;
// the output is that of AR, token by token when greedy, in distribution with a temperature.
// Cycle of Nemotron-Labs-Diffusion's linear_spec; acceptance of Leviathan et al. 2023 (see sampling/sampler.h).
//
// Fused, the next draft is made in the pass that verifies: groups of masks branch off behind some of the verified rows,
// as in Nemotron-Labs-Diffusion's quadratic mode, where they branch off behind each. A group stands where its draft
// will if the verification ends there; so its first mask predicts the token that only the verification tells. If it
// predicted another one, the rest of its draft was made for another text and is dropped. What a mask says depends on
// the rows that it sees alone, and a draft is drawn after the verification, from fresh noise: whatever was chosen or
// dropped before, it is distributed as its proposal, given all that stands before it. Without a draft the seed alone is
// verified, a group behind it: a draft pass that emits a token.
//
// Where the text repeats itself, what followed before is a draft that takes no pass: its proposal is certain of each
// token.
#pragma once

#include "decoders/decoder.h"
#include "speculation/ngram_lookup.h"

namespace trimode {

class SelfSpecDecoder : public Decoder {
  public:
    SelfSpecDecoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler, int n_batch);

  protected:
    int decode_rows() const override;
    int plan_decode(Batch & batch) override;
    void begin(const Forward & forward, int row) override;
    void consume_decode(Batch & batch, const Forward & forward) override;

  private:
    enum class Phase { draft, verify };

    void go_on();
    void choose_cycle();
    void choose_branches();
    bool look_up();
    int lookup_length() const;
    void write(const Forward & forward, int row, llama_token token);
    void take_draft(const Forward & forward, int first_row, int n_rows);
    void verify(Batch & batch, const Forward & forward);
    void take_branch(const Forward & forward, int accepted, int n_draft);
    bool predicts_last(llama_token predicted, bool rejected) const;
    void learn(int drafted, int accepted, int uncounted = 0);
    Sampler::Verdict check(const Forward & forward, int i);
    std::vector<llama_token> verified() const;

    Phase phase_ = Phase::draft;
    std::optional<Acceptance> acceptance_;  // once the prefill is done
    Cycle cycle_;
    std::optional<NgramLookup> lookup_;  // where drafts may be read off the text
    std::optional<NgramAcceptance> lookup_acceptance_;
    bool looked_up_ = false;               // so the draft at hand was
    int plain_left_ = 0;                   // passes of plain AR until the next choice
    bool started_ = false;                 // a fused cycle: its pass without a draft has been
    std::vector<Branch> branches_;         // of the next verification
    std::vector<int> branch_rows_;         // their first rows in the current batch
    int rows_ = 0;                         // planned in the current batch, branches left out
    int planned_drafts_ = 0;               // of the draft at hand, those behind an end included
    int known_drafts_ = 0;                 // positions of its block before it, whose drafts have proved right
    int uncounted_ = 0;                    // of these, those that say nothing about acceptance
    std::vector<llama_token> draft_;       // what the verify pass checks
    std::vector<Distribution> proposals_;  // what each of its tokens was drawn from; empty when greedy
    int n_drafts_ = 0;                     // drawn so far, of all cycles: keys their noise
};

}  // namespace trimode
