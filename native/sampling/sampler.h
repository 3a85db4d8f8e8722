// The target distribution of a request: llama.cpp's sampler chain over a row of logits, in llama-cpp-python's order.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../model.h"
#include "distribution.h"

namespace trimode {

// Names and defaults of llama-cpp-python, except temperature: 0 is greedy.
struct SamplerOptions {
    float temperature = 0.0f;
    int top_k = 40;  // <= 0: off
    float top_p = 0.95f;
    float min_p = 0.05f;
    float typical_p = 1.0f;
    float repeat_penalty = 1.0f;
    float frequency_penalty = 0.0f;
    float presence_penalty = 0.0f;
    int penalty_last_n = 64;
    float dry_multiplier = 0.0f;  // 0: off
    float dry_base = 1.75f;
    int dry_allowed_length = 2;
    int dry_penalty_last_n = -1;  // -1: the context
    std::vector<std::string> dry_sequence_breakers{"\n", ":", "\"", "*"};
    std::vector<llama_logit_bias> logit_bias;
    std::string grammar;  // GBNF; empty: none
    uint64_t seed = 0;
    bool coupled = false;  // Gumbel-max with shared noise instead of rejection sampling

    bool greedy() const { return temperature <= 0.0f; }

    // True when the target is the argmax of the raw logits: no row of logits is needed then.
    bool plain_argmax() const;
};

class Sampler {
  public:
    // Throws std::invalid_argument for a grammar that does not parse and for options out of range.
    Sampler(const Model & model, SamplerOptions options, int n_ctx);

    // The target distribution of the next token, given all tokens accepted so far.
    // `logits`: n_vocab floats. The mask id never survives. Throws std::runtime_error when the grammar allows nothing.
    Distribution target(const float * logits);

    // What a draft row proposes: its top candidates at the request's temperature under the same truncation, without
    // penalties. Any proposal is exact; a near one is accepted often. After begin_draft() the grammar holds for it too,
    // which knows of the drafts that accept_draft() names.
    Distribution proposal(const float * logits);
    void begin_draft();
    void accept_draft(llama_token token);

    // Draws from the target as AR does, at the position where the token will stand.
    llama_token draw(const Distribution & target, int32_t position) const;
    // Draws a proposal, number `draft` of this request: every one has fresh noise, unless `coupled`.
    llama_token draw_draft(const Distribution & proposal, int32_t position, int draft) const;

    // Draws a candidate of block diffusion from the proposal of a row; fresh noise in every denoising pass.
    llama_token draw_candidate(const float * logits, int32_t position, int pass);

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
    struct Free {
        void operator()(llama_sampler * p) const { llama_sampler_free(p); }
    };
    using Chain = std::unique_ptr<llama_sampler, Free>;

    void build_penalties(const Model & model, int n_ctx);
    void build_truncation();
    size_t reduced_size() const;
    void collect(const float * logits, size_t n);
    void add_biased(const float * logits);
    bool apply_history(size_t wanted);
    bool apply_grammar(llama_sampler * grammar);
    bool collect_grammatical(const float * logits);
    Distribution truncate();

    const Model & model_;
    SamplerOptions options_;
    Chain history_;        // logit bias, penalties, DRY: change few tokens
    Chain grammar_;        // may forbid any number of tokens
    Chain draft_grammar_;  // the same behind the drafts so far
    Chain truncation_;     // top-k, typical, top-p, min-p, temperature
    int n_ctx_;
    std::vector<llama_token_data> candidates_;
};

}  // namespace trimode
