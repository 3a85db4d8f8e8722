// One small state machine per mode: plan() adds the request's rows to a pass, consume() takes the results.
// A decoder knows nothing of other requests. The prefill is the same for all and lives here.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>

#include "decoders/request.h"
#include "decoders/stop_strings.h"
#include "decoders/thinking.h"
#include "forward/forward.h"
#include "model/model.h"

namespace trimode {

class Decoder {
  public:
    // `n_batch`: most rows of a pass.
    Decoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler, int n_batch);
    virtual ~Decoder() = default;

    // What the next pass is to carry: at most so many rows. Behind the prefill it needs all of them, or does not begin.
    bool prefilling() const { return prefilling_behind(0); }
    bool prefilling_behind(int n_rows) const { return request_.sequence->size() + n_rows < prefill_size(); }
    int next_rows() const {
        return prefilling() ? std::min(prefill_size() - request_.sequence->size(), n_batch_) : decode_rows();
    }

    // Cells behind the sequence that a pass with `n_rows` rows needs.
    int next_cells(int n_rows) const { return prefilling() ? n_rows : std::max(n_rows, decode_cells()); }

    // Adds the rows: of a prefill the next `n_rows`, else as planned.
    void plan(Batch & batch, int n_rows);

    // Takes the results of the rows planned last: commits cells, emits tokens, may finish the request.
    void consume(Batch & batch, const Forward & forward);

    // Whether the rows planned last are those of a prompt.
    bool planned_prefill() const { return first_row_ >= 0 && prefill_rows_ > 0; }

  protected:
    virtual int decode_rows() const { return request_.options.block_length; }  // at most, of any pass
    virtual int decode_cells() const { return decode_rows(); }
    virtual int plan_decode(Batch & batch) = 0;  // returns the first row
    virtual void consume_decode(Batch & batch, const Forward & forward) = 0;

    virtual int prefill_size() const { return static_cast<int>(request_.prompt.size()); }

    // After the prefill, whose last row is `row`: emits the first token.
    virtual void begin(const Forward & forward, int row);

    // What to ask of a row from which a token is sampled.
    Want sampled() const {
        if (wants_logprobs()) {
            return Want::logits;
        }
        if (plain_argmax_) {
            return Want::token;
        }
        return request_.options.sampler.decided_by(N_CANDIDATES) ? Want::candidates : Want::logits;
    }
    // What a row must show to be drafted from.
    Want drafted() const {
        if (plain_argmax_) {
            return Want::token;
        }
        return request_.options.sampler.grammar.empty() ? Want::candidates : Want::logits;
    }
    bool wants_logprobs() const { return request_.options.logprobs >= 0; }

    // The argmax of a row that wanted one. Throws std::runtime_error where no logit is finite.
    Output best(const Forward & forward, int row) const;

    // The token that follows a causal row, to stand at `position`: from the target distribution, as AR draws it, or
    // the end of reasoning when its budget is spent.
    llama_token sample(const Forward & forward, int row, int32_t position);

    // Emits the token that follows a causal row, unless the request has ended.
    void emit(const Forward & forward, int row, llama_token token);

    // The two parts of emit, for tokens that are decided before their causal row is computed.
    // The token is decided: the reasoning budget counts it.
    void decide(llama_token token) { thinking_.push(token); }
    // It goes out; ends the request at an end-of-generation token, a stop string, a loop or max_tokens. `logits`: of
    // its causal row, where logprobs are wanted.
    void put_out(llama_token token, const float * logits);

    int n_batch() const { return n_batch_; }
    bool is_end(llama_token token) const { return request_.options.is_end(model_, token); }
    bool is_reasoning_tag(llama_token token) const {
        return token == request_.options.think_begin || token == request_.options.think_end;
    }
    bool finished() const { return request_.finish != Finish::none; }

    const Model & model_;
    Request & request_;
    std::unique_ptr<Sampler> sampler_;
    ThinkingBudget thinking_;
    bool plain_argmax_;      // no sampler is needed
    int first_row_ = -1;     // of this request in the current batch; -1: none
    llama_token last_ = -1;  // emitted, not in the cache yet: the seed of what follows

  private:
    void report_logprobs(llama_token token, const float * logits);
    bool is_loop(llama_token token);

    StopStrings stop_;
    std::optional<LoopDetector> loop_;
    int n_batch_;
    int prefill_rows_ = 0;  // planned in the current batch
};

std::unique_ptr<Decoder> make_decoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler,
                                      int n_batch);

}  // namespace trimode
