// Block diffusion: a block of masks behind a known seed is denoised in parallel; a causal pass then writes the cache
// and its last logits give the next seed. Nemotron-Labs-Diffusion's dlm mode with confidence threshold
// (as Fast-dLLM, Wu et al. 2025): every pass commits the most confident masked position and all at or above it.
// Or, by margin: the first masked position, which has all that stands before it, and every one whose token leads the
// next best one by the threshold (docs/decoding.md has what either brings).
// Under a grammar positions are revealed from left to right, each by what the grammar allows behind those before it;
// confidence is then that among what is allowed.
// With a temperature the candidates are drawn; their confidence is still that of the softmax without temperature.
// Logit bias and min_tokens change the rows of a block, penalties and DRY its first token alone.
#pragma once

#include "decoders/decoder.h"

namespace trimode {

class DiffusionDecoder : public Decoder {
  public:
    using Decoder::Decoder;

  protected:
    int plan_decode(Batch & batch) override;
    void consume_decode(Batch & batch, const Forward & forward) override;

    virtual int next_block_length() const;
    virtual void start_block();
    void decide(int i, llama_token token, float confidence);

    std::vector<llama_token> block_;  // empty between blocks

  private:
    bool by_argmax() const;  // whether nothing but the highest logit of a row is looked at
    // Which token of the answer stands at position i of the block.
    int index(int i) const { return request_.stats.completion_tokens - n_emitted_ + i; }
    Output candidate(const Forward & forward, int i) const;
    void denoise(const Forward & forward);
    void denoise_in_order(const Forward & forward);
    bool goes_on(int n_revealed, int n_masked, float sure) const;
    int n_revealed(const std::vector<float> & sure, const std::vector<int> & order) const;
    float lead(const Forward & forward, int i, const Output & candidate) const;
    void settle();
    void force(llama_token token);
    void emit_settled();
    void commit_block(Batch & batch, const Forward & forward);

    std::vector<float> confidence_;  // per position; 0 where masked
    std::vector<bool> masked_;
    int n_masked_ = 0;
    int pass_ = 0;       // denoising passes of this block so far
    int n_settled_ = 0;  // leading tokens of the block that are final; the seed is
    int n_emitted_ = 0;  // those of them already emitted
};

}  // namespace trimode
