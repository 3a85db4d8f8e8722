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
// Two passes leave room for a tree: the draft pass tells the second-best token of each position too, and beside the
// chain of best tokens runs that begin with a second-best one are verified, each behind the row that it branches off
// from. Where the chain is rejected and the target's token is a run's first one, the cycle goes on along the run. Its
// rows are computed to the bit as those of the same tokens in a chain are (forward/side_places.h).
//
// Where the text repeats itself, what followed before is a draft that takes no pass: its proposal is certain of each
// token.
#pragma once

#include "decoders/decoder.h"
#include "forward/side_places.h"
#include "speculation/ngram_lookup.h"

namespace trimode {

class SelfSpecDecoder : public Decoder {
  public:
    SelfSpecDecoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler, int n_batch);

  protected:
    int decode_rows() const override;
    int decode_cells() const override;
    int plan_decode(Batch & batch) override;
    void begin(const Forward & forward, int row) override;
    void consume_decode(Batch & batch, const Forward & forward) override;

  private:
    enum class Phase { draft, verify };
    // A run of a tree: the chain's drafts before it, its tokens, and where its keys and values lie.
    struct Run {
        int after;
        std::vector<llama_token> tokens;
        int32_t place;
        int first_row;  // in the current batch
    };

    void go_on();
    void choose_cycle();
    void choose_branches();
    void choose_tree();
    bool may_have_tree() const { return request_.options.has_trees() && !cycle_.fused; }
    bool look_up();
    int lookup_length() const;
    void write(const Forward & forward, int row, llama_token token);
    void take_draft(const Forward & forward, int first_row, int n_rows);
    void verify(Batch & batch, const Forward & forward);
    const Run * run_behind(int accepted) const;
    int follow(const Forward & forward, const Run & run);
    void count_drafts(int accepted, int followed);
    void take_branch(const Forward & forward, int accepted, int n_draft);
    bool predicts_last(llama_token predicted, bool rejected) const;
    void learn(int drafted, int accepted, int uncounted = 0);
    Sampler::Verdict check(const Forward & forward, int row, int i, bool strayed = false);
    void observe_nodes(const Sampler::Verdict & verdict, int i, bool strayed);
    bool is_second(llama_token token, int i) const;
    void take_second(const Output & output, int32_t position, int i);
    std::vector<llama_token> verified() const;

    Phase phase_ = Phase::draft;
    std::optional<Acceptance> acceptance_;  // once the prefill is done
    Cycle cycle_;
    std::optional<NgramLookup> lookup_;  // where drafts may be read off the text
    std::optional<NgramAcceptance> lookup_acceptance_;
    bool looked_up_ = false;        // so the draft at hand was
    int plain_left_ = 0;            // passes of plain AR until the next choice
    bool started_ = false;          // a fused cycle: its pass without a draft has been
    std::vector<Branch> branches_;  // of the next verification
    std::vector<int> branch_rows_;  // their first rows in the current batch
    std::vector<Run> runs_;
    int n_verified_ = 0;                   // drafts of the chain that are verified; the others are cut off
    int cells_ = 0;                        // of rows and runs
    std::vector<llama_token> second_;      // best tokens but one, by draft; empty: there are no trees
    std::vector<float> leads_;             // of each draft over it
    bool second_is_right_ = false;         // what was emitted last is the second-best token of its draft
    int rows_ = 0;                         // planned in the current batch, branches left out
    int planned_drafts_ = 0;               // of the draft at hand, those behind an end included
    int known_drafts_ = 0;                 // positions of its block before it, whose drafts have proved right
    int uncounted_ = 0;                    // of these, those that say nothing about acceptance
    std::vector<llama_token> draft_;       // what the verify pass checks
    std::vector<Distribution> proposals_;  // what each of its tokens was drawn from; empty when greedy
    int n_drafts_ = 0;                     // drawn so far, of all cycles: keys their noise
};

}  // namespace trimode
