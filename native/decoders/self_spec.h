// Linear self-speculation: a block pass drafts (drafter LoRA on), a causal pass verifies (off).
// The longest prefix of the draft that verification accepts is emitted, plus one more token from the verify logits;
// the output is that of AR, token by token when greedy, in distribution with a temperature.
// Cycle of Nemotron-Labs-Diffusion's linear_spec; acceptance of Leviathan et al. 2023 (see sampling/sampler.h).
#pragma once

#include "decoder.h"

namespace trimode {

class SelfSpecDecoder : public Decoder {
  public:
    using Decoder::Decoder;

  protected:
    int decode_rows() const override { return phase_ == Phase::draft ? length_ : static_cast<int>(draft_.size()) + 1; }
    int plan_decode(Batch & batch) override;
    void begin(const Forward & forward, int row) override;
    void consume_decode(Batch & batch, const Forward & forward) override;

  private:
    enum class Phase { draft, verify };

    void choose_length();
    int plan_draft(Batch & batch, int length);
    void take_draft(const Forward & forward);
    void verify(Batch & batch, const Forward & forward);
    void learn(int accepted);
    Sampler::Verdict check(const Forward & forward, int i);

    Phase phase_ = Phase::draft;
    std::optional<Acceptance> acceptance_;  // once the prefill is done
    int length_ = 0;                        // of the next block
    int rows_ = 0;                          // planned in the current batch
    int planned_drafts_ = 0;                // of the last draft pass, those behind an end included
    std::vector<llama_token> draft_;        // what the verify pass checks
    std::vector<Distribution> proposals_;   // what each of its tokens was drawn from; empty when greedy
};

}  // namespace trimode
