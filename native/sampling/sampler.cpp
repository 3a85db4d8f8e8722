#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "sampling/random.h"
#include "sampling/row.h"
#include "sampling/truncation.h"
#include "util/reduce.h"

namespace trimode {

namespace {

constexpr size_t PROPOSAL_CANDIDATES = 64;
constexpr size_t GRAMMAR_CANDIDATES = 64;  // looked at first; all when the grammar leaves too few

}  // namespace

Sampler::Sampler(const Model & model, SamplerOptions options, int n_ctx) : model_(model), options_(std::move(options)) {
    options_.check();
    // Samplers make room for as many tokens as they may look back at: no more than there can be.
    options_.penalty_last_n = std::min(options_.penalty_last_n, n_ctx);
    options_.dry_penalty_last_n =
        options_.dry_penalty_last_n < 0 ? n_ctx : std::min(options_.dry_penalty_last_n, n_ctx);
    if (options_.changes_logits()) {
        build_history();
    }
    if (!options_.grammar.empty()) {
        constraint_ = std::make_unique<Constraint>(model, options_.grammar, options_.grammar_after);
    }
}

void Sampler::build_history() {
    const SamplerOptions & o = options_;
    const int n_vocab = model_.n_vocab();
    history_ = make_chain();
    const auto add = [&](llama_sampler * sampler) { llama_sampler_chain_add(history_.get(), sampler); };
    if (!o.logit_bias.empty()) {
        add(llama_sampler_init_logit_bias(n_vocab, static_cast<int32_t>(o.logit_bias.size()), o.logit_bias.data()));
    }
    if (o.has_penalties()) {
        add(llama_sampler_init_penalties(n_vocab, o.penalty_last_n, o.repeat_penalty, o.frequency_penalty,
                                         o.presence_penalty));
    }
    if (o.has_dry()) {
        std::vector<const char *> breakers;
        for (const std::string & breaker : o.dry_sequence_breakers) {
            breakers.push_back(breaker.c_str());
        }
        add(llama_sampler_init_dry(llama_model_get_vocab(model_.raw()), o.dry_multiplier, o.dry_base,
                                   o.dry_allowed_length, o.dry_penalty_last_n, breakers.data(), breakers.size()));
    }
    is_touched_.resize(n_vocab);
    for (const llama_logit_bias & bias : o.logit_bias) {
        touch(bias.token);
    }
}

void Sampler::touch(llama_token token) {
    if (!is_touched_[token]) {
        is_touched_[token] = true;
        touched_.push_back(token);
    }
}

// The logits after bias, penalties and DRY.
const float * Sampler::with_history(const float * logits) {
    if (touched_.empty()) {
        return logits;
    }
    candidates_.clear();
    for (const llama_token token : touched_) {
        candidates_.push_back({token, logits[token], 0.0f});
    }
    apply(history_.get(), candidates_);
    float * row = copied(logits);
    for (const llama_token_data & c : candidates_) {
        row[c.id] = c.logit;
    }
    return row;
}

// `logits` in row_, for changes.
float * Sampler::copied(const float * logits) {
    if (logits != row_.data()) {
        row_.assign(logits, logits + model_.n_vocab());
    }
    return row_.data();
}

// The logits of token `index` of the answer, which must not end before min_tokens.
const float * Sampler::without_ends(const float * logits, int index) {
    if (index >= options_.min_tokens) {
        return logits;
    }
    float * row = copied(logits);
    for (const llama_token token : options_.ends) {
        row[token] = -INFINITY;
    }
    return row;
}

// What of the options holds in a block: all that does not depend on what is emitted before.
const float * Sampler::of_block(const float * logits, int index) {
    if (!options_.logit_bias.empty()) {
        float * row = copied(logits);
        for (const llama_logit_bias & bias : options_.logit_bias) {
            row[bias.token] += bias.bias;
        }
        logits = row;
    }
    return without_ends(logits, index);
}

// `logits` in row_, with -infinity for what the constraint refuses.
const float * Sampler::masked(const float * logits) {
    float * row = copied(logits);
    constraint_->mask(row);
    return row;
}

// Into candidates_ the `wanted` highest logits that the constraint allows, or as many as there are among the first
// ones.
size_t Sampler::collect_allowed(const float * logits, size_t wanted) {
    collect_highest(logits, model_.n_vocab(), model_.mask_token(), wanted + GRAMMAR_CANDIDATES, candidates_);
    std::sort(candidates_.begin(), candidates_.end(), is_higher);
    size_t n = 0;
    for (size_t i = 0; i < candidates_.size() && n < wanted; ++i) {
        if (constraint_->allows(candidates_[i].id)) {
            candidates_[n++] = candidates_[i];
        }
    }
    candidates_.resize(n);
    return n;
}

// `logits`: with history.
Distribution Sampler::under_constraint(const float * logits) {
    const size_t wanted = options_.greedy() ? 1 : std::max(options_.top_k, 0);
    if (wanted > 0 && collect_allowed(logits, wanted) == wanted) {
        return truncated(candidates_, options_);
    }
    return truncated(masked(logits), model_.n_vocab(), model_.mask_token(), options_);
}

// What became of a row of logits, if there is a token in it.
Distribution Sampler::checked(Distribution row, const float * logits) const {
    if (row.is_valid()) {
        return row;
    }
    if (!std::isfinite(argmax(logits, model_.n_vocab(), model_.mask_token()).logit)) {
        model_.fail_not_finite();
    }
    throw std::runtime_error("grammar, logit bias and min_tokens together allow no token");
}

Distribution Sampler::target(const float * logits) {
    const float * row = without_ends(with_history(logits), n_accepted_);
    if (!constraint_) {
        return checked(truncated(row, model_.n_vocab(), model_.mask_token(), options_), logits);
    }
    end_draft();
    return checked(under_constraint(row), logits);
}

llama_token Sampler::draw(const Distribution & target, int32_t position) const {
    if (options_.greedy()) {
        return target.token(0);
    }
    return options_.coupled ? target.draw_gumbel(options_.seed, position)
                            : target.draw(uniform(options_.seed, position, Draw::target));
}

Sampler::Verdict Sampler::verify(const Distribution & target, const Distribution & proposal, llama_token draft,
                                 int32_t position) const {
    if (options_.greedy() || options_.coupled) {
        const llama_token token = draw(target, position);
        return {token == draft, token};
    }
    const double u = uniform(options_.seed, position, Draw::accept);
    if (u * proposal.probability(draft) < target.probability(draft)) {
        return {true, draft};
    }
    return {false, target.residual(proposal).draw(uniform(options_.seed, position, Draw::residual))};
}

Distribution Sampler::proposal(const float * logits) {
    const size_t n = options_.greedy()    ? 1
                     : options_.top_k > 0 ? std::min<size_t>(options_.top_k, PROPOSAL_CANDIDATES)
                                          : PROPOSAL_CANDIDATES;
    logits = without_ends(logits, n_accepted_ + n_drafted_);
    if (drafting_ && collect_allowed(logits, n) == 0) {
        collect_highest(masked(logits), model_.n_vocab(), model_.mask_token(), n, candidates_);
        drafting_ = !candidates_.empty();  // no token may follow these drafts
    }
    if (!drafting_) {
        collect_highest(logits, model_.n_vocab(), model_.mask_token(), n, candidates_);
    }
    return truncated(candidates_, options_);
}

void Sampler::begin_draft() {
    end_draft();
    drafting_ = constraint_ != nullptr;
    n_drafted_ = 0;
}

void Sampler::accept_draft(llama_token token) {
    drafting_ = drafting_ && constraint_->try_out(token);
    ++n_drafted_;
}

void Sampler::end_draft() {
    if (constraint_) {
        constraint_->rollback();
    }
    drafting_ = false;
}

llama_token Sampler::draw_draft(const Distribution & proposal, int32_t position, int draft) const {
    if (options_.greedy()) {
        return proposal.token(0);
    }
    return options_.coupled
               ? proposal.draw_gumbel(options_.seed, position)
               : proposal.draw(uniform(options_.seed, position, Draw::draft, static_cast<uint32_t>(draft)));
}

llama_token Sampler::draw_candidate(const float * logits, int index, int32_t position, int pass) {
    const float * changed = of_block(logits, index);
    const Distribution row = checked(
        constraint_ ? under_constraint(changed) : truncated(changed, model_.n_vocab(), model_.mask_token(), options_),
        logits);
    return row.draw(uniform(options_.seed, position, Draw::draft, static_cast<uint32_t>(pass)));
}

float Sampler::confidence(const float * logits, int index, llama_token token) {
    const float * changed = of_block(logits, index);
    changed = constraint_ ? masked(changed) : changed;
    const Distribution row = Distribution::of_row(changed, model_.n_vocab(), model_.mask_token(), 1.0f);
    return static_cast<float>(row.probability(token));
}

void Sampler::accept(llama_token token) {
    ++n_accepted_;
    if (history_) {
        touch(token);
        llama_sampler_accept(history_.get(), token);
    }
    if (constraint_) {
        drafting_ = false;
        constraint_->accept(token);
    }
}

}  // namespace trimode
