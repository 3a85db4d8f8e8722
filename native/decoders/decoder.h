// One small state machine per mode: plan() adds the request's rows to a pass, consume() takes the results.
// A decoder knows nothing of other requests. The prefill is the same for all and lives here.
#pragma once

#include <memory>

#include "../forward.h"
#include "../model.h"
#include "request.h"

namespace trimode {

class Decoder {
  public:
    Decoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler)
        : model_(model),
          request_(request),
          sampler_(std::move(sampler)),
          plain_argmax_(request.options.sampler.plain_argmax()) {}
    virtual ~Decoder() = default;

    // Adds rows, as many as the batch has room for; possibly none. Called twice for each pass: first for those whose
    // next rows are tiled (long prefills), then for the rest.
    void plan(Batch & batch, bool tiled);

    // Takes the results of the rows planned last: commits cells, emits tokens, may finish the request.
    void consume(Batch & batch, const Forward & forward);

  protected:
    virtual int plan_decode(Batch & batch) = 0;  // returns the first row
    virtual void consume_decode(Batch & batch, const Forward & forward) = 0;

    // What to ask of a row from which a token is sampled.
    Want sampled() const { return plain_argmax_ ? Want::token : Want::logits; }

    // The token that follows a causal row, to stand at `position`: from the target distribution, as AR draws it.
    llama_token sample(const Forward & forward, int row, int32_t position);

    // Emits a token unless the request has ended; ends it at an end-of-generation token or at max_tokens.
    void emit(llama_token token);
    bool is_end(llama_token token) const { return !request_.options.ignore_eos && model_.is_eog(token); }
    bool finished() const { return request_.finish != Finish::none; }

    const Model & model_;
    Request & request_;
    std::unique_ptr<Sampler> sampler_;
    bool plain_argmax_;      // no sampler is needed
    int first_row_ = -1;     // of this request in the current batch; -1: none
    llama_token last_ = -1;  // emitted, not in the cache yet: the seed of what follows

  private:
    bool prefilling() const { return request_.sequence->size() < static_cast<int>(request_.prompt.size()); }
    int prefill_chunk_end(int capacity) const;
    bool is_tiled(int capacity) const;

    int prefill_rows_ = 0;  // planned in the current batch
};

std::unique_ptr<Decoder> make_decoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler);

}  // namespace trimode
