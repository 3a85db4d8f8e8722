// The target distribution of a request: llama.cpp's sampler chain over a row of logits, in llama-cpp-python's order
// (bias, penalties, DRY, grammar, then truncation.h).
#pragma once

#include <memory>
#include <vector>

#include "model/model.h"
#include "sampling/constraint.h"
#include "sampling/distribution.h"
#include "sampling/options.h"
#include "sampling/stock_sampler.h"

namespace trimode {

class Sampler {
  public:
    // Throws std::invalid_argument for a grammar that does not parse and for options out of range.
    Sampler(const Model & model, SamplerOptions options, int n_ctx);

    // The target distribution of the next token, given all tokens accepted so far.
    // `logits`: n_vocab floats. The mask id never survives. Throws std::runtime_error when the grammar allows nothing
    // and where no logit is finite.
    Distribution target(const float * logits);

    // What a draft row proposes: its top candidates at the request's temperature under the same truncation, without
    // penalties. Any proposal is exact; a near one is accepted often. After begin_draft() the grammar holds for it too,
    // which knows of the drafts that accept_draft() names. Not valid where no logit is finite.
    Distribution proposal(const float * logits);
    void begin_draft();
    void accept_draft(llama_token token);

    bool constrained() const { return constraint_ != nullptr; }

    // Draws from the target as AR does, at the position where the token will stand.
    llama_token draw(const Distribution & target, int32_t position) const;
    // Draws a proposal, number `draft` of this request: every one has fresh noise, unless `coupled`.
    llama_token draw_draft(const Distribution & proposal, int32_t position, int draft) const;

    // Draws a candidate of block diffusion from a row, truncated; fresh noise in every denoising pass. It is to be
    // token `index` of the answer. A grammar holds for it as for a draft, logit bias and min_tokens hold too. Throws as
    // target() does.
    llama_token draw_candidate(const float * logits, int index, int32_t position, int pass);

    // Its probability among what may stand there, without temperature: 1 where nothing else may.
    float confidence(const float * logits, int index, llama_token token);

    // Such logits after all that changes them in a block, until the next call.
    const float * of_block(const float * logits, int index);

    struct Verdict {
        bool accepted;
        llama_token token;  // what is emitted at this position: the draft, or what replaces it
    };
    // Exact acceptance of `draft`, drawn by draw_draft from `proposal`.
    Verdict verify(const Distribution & target, const Distribution & proposal, llama_token draft,
                   int32_t position) const;

    // Tells penalties and grammar of an emitted token.
    void accept(llama_token token);

    const SamplerOptions & options() const { return options_; }

  private:
    void build_history();
    void touch(llama_token token);
    const float * with_history(const float * logits);
    const float * without_ends(const float * logits, int index);
    float * copied(const float * logits);
    Distribution under_constraint(const float * logits);
    Distribution checked(Distribution row, const float * logits) const;
    size_t collect_allowed(const float * logits, size_t wanted);
    const float * masked(const float * logits);
    void end_draft();

    const Model & model_;
    SamplerOptions options_;
    llama_sampler_ptr history_;               // logit bias, penalties, DRY: each changes the touched tokens only
    std::vector<llama_token> touched_;        // biased or emitted so far
    std::vector<bool> is_touched_;            // by token
    std::unique_ptr<Constraint> constraint_;  // null: none
    bool drafting_ = false;                   // it stands behind drafts, or where they begin
    int n_accepted_ = 0;                      // emitted so far
    int n_drafted_ = 0;                       // since begin_draft()
    std::vector<llama_token_data> candidates_;
    std::vector<float> row_;  // logits, changed
};

}  // namespace trimode
