// Linear self-speculation: a block pass drafts (drafter LoRA on), a causal pass verifies (off).
// Greedy: the longest prefix whose argmax equals the draft is accepted, plus one more token from the verify logits,
// so the output is that of AR. Cycle of Nemotron-Labs-Diffusion's linear_spec; acceptance of Leviathan et al. 2023.
#pragma once

#include "decoder.h"

namespace trimode {

class SelfSpecDecoder : public Decoder {
  public:
    using Decoder::Decoder;

  protected:
    int plan_decode(Batch & batch) override;
    void consume_decode(Batch & batch, const Forward & forward) override;

  private:
    enum class Phase { draft, verify };

    int plan_draft(Batch & batch, int length);
    void take_draft(const Forward & forward);
    void verify(Batch & batch, const Forward & forward);

    Phase phase_ = Phase::draft;
    int rows_ = 0;                    // planned in the current batch
    std::vector<llama_token> draft_;  // what the verify pass checks
};

}  // namespace trimode
