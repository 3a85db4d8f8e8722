// Infill: the middle between a prompt and a suffix, as one block of masks that sees both sides.
#pragma once

#include "decoders/diffusion.h"

namespace trimode {

// The block is [last prompt token, max_tokens masks, suffix]; only the masks are denoised, and they are all that is
// emitted. An end-of-generation token among them ends the middle early.
class InfillDecoder : public DiffusionDecoder {
  public:
    InfillDecoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler, int n_batch);

  protected:
    int prefill_size() const override;
    int decode_rows() const override { return next_block_length(); }
    void begin(const Forward &, int) override {}
    void start_block() override;
    int next_block_length() const override;
};

}  // namespace trimode
