#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "../log.h"
#include "../reduce.h"
#include "random.h"

namespace trimode {

namespace {

constexpr size_t PROPOSAL_CANDIDATES = 64;
constexpr size_t GRAMMAR_CANDIDATES = 256;  // looked at first; more when the grammar leaves too few

void require(bool holds, const char * name, double value, const char * range) {
    if (!holds) {
        throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + "; it must be " + range);
    }
}

void check(const SamplerOptions & o) {
    require(std::isfinite(o.temperature) && o.temperature >= 0.0f, "temperature", o.temperature, "0 (greedy) or more");
    require(o.top_p >= 0.0f && o.top_p <= 1.0f, "top_p", o.top_p, "between 0 and 1");
    require(o.min_p >= 0.0f && o.min_p <= 1.0f, "min_p", o.min_p, "between 0 and 1");
    require(o.typical_p >= 0.0f && o.typical_p <= 1.0f, "typical_p", o.typical_p, "between 0 and 1");
    require(o.repeat_penalty > 0.0f, "repeat_penalty", o.repeat_penalty, "more than 0 (1: off)");
    require(std::isfinite(o.frequency_penalty), "frequency_penalty", o.frequency_penalty, "finite");
    require(std::isfinite(o.presence_penalty), "presence_penalty", o.presence_penalty, "finite");
    require(o.penalty_last_n >= 0, "penalty_last_n", o.penalty_last_n, "0 or more");
    require(o.dry_multiplier >= 0.0f, "dry_multiplier", o.dry_multiplier, "0 (off) or more");
}

bool has_penalties(const SamplerOptions & o) {
    return o.penalty_last_n > 0 &&
           (o.repeat_penalty != 1.0f || o.frequency_penalty != 0.0f || o.presence_penalty != 0.0f);
}

bool higher(const llama_token_data & a, const llama_token_data & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

}  // namespace

bool SamplerOptions::plain_argmax() const {
    return greedy() && !has_penalties(*this) && dry_multiplier == 0.0f && logit_bias.empty() && grammar.empty();
}

Sampler::Sampler(const Model & model, SamplerOptions options, int n_ctx)
    : model_(model), options_(std::move(options)), n_ctx_(n_ctx) {
    check(options_);
    build_penalties(model, n_ctx);
    if (!options_.grammar.empty()) {
        Log::clear_error();
        grammar_.reset(
            llama_sampler_init_grammar(llama_model_get_vocab(model.raw()), options_.grammar.c_str(), "root"));
        if (!grammar_) {
            throw std::invalid_argument("grammar: cannot be parsed: " + Log::last_error());
        }
    }
    build_truncation();
}

void Sampler::build_penalties(const Model & model, int n_ctx) {
    const SamplerOptions & o = options_;
    const int n_vocab = model.n_vocab();
    history_.reset(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    if (!o.logit_bias.empty()) {
        llama_sampler_chain_add(
            history_.get(),
            llama_sampler_init_logit_bias(n_vocab, static_cast<int32_t>(o.logit_bias.size()), o.logit_bias.data()));
    }
    if (has_penalties(o)) {
        llama_sampler_chain_add(history_.get(),
                                llama_sampler_init_penalties(n_vocab, o.penalty_last_n, o.repeat_penalty,
                                                             o.frequency_penalty, o.presence_penalty));
    }
    if (o.dry_multiplier > 0.0f) {
        std::vector<const char *> breakers;
        for (const std::string & breaker : o.dry_sequence_breakers) {
            breakers.push_back(breaker.c_str());
        }
        llama_sampler_chain_add(
            history_.get(),
            llama_sampler_init_dry(llama_model_get_vocab(model.raw()), o.dry_multiplier, o.dry_base,
                                   o.dry_allowed_length, o.dry_penalty_last_n < 0 ? n_ctx : o.dry_penalty_last_n,
                                   breakers.data(), breakers.size()));
    }
}

void Sampler::build_truncation() {
    const SamplerOptions & o = options_;
    truncation_.reset(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    const auto add = [&](llama_sampler * sampler) { llama_sampler_chain_add(truncation_.get(), sampler); };
    if (o.top_k > 0) {
        add(llama_sampler_init_top_k(o.top_k));
    }
    if (o.typical_p < 1.0f) {
        add(llama_sampler_init_typical(o.typical_p, 1));
    }
    if (o.top_p < 1.0f) {
        add(llama_sampler_init_top_p(o.top_p, 1));
    }
    if (o.min_p > 0.0f) {
        add(llama_sampler_init_min_p(o.min_p, 1));
    }
    add(llama_sampler_init_temp(o.temperature));
}

// How many of the highest logits certainly hold the survivors of top-k after bias and penalties, which change at most
// the tokens they name; the whole vocabulary where top-k is off. Greedy needs the first.
size_t Sampler::reduced_size() const {
    const size_t n_vocab = model_.n_vocab();
    const bool raises = options_.repeat_penalty < 1.0f || options_.frequency_penalty < 0.0f ||
                        options_.presence_penalty < 0.0f;  // tokens from anywhere may rise to the top
    if (raises || (!options_.greedy() && options_.top_k <= 0)) {
        return n_vocab;
    }
    size_t changed = options_.logit_bias.size();
    changed += has_penalties(options_) ? options_.penalty_last_n : 0;
    changed += options_.dry_multiplier > 0.0f ? n_ctx_ : 0;
    const size_t kept = options_.greedy() ? 1 : options_.top_k;
    return std::min(n_vocab, kept + changed + (grammar_ ? GRAMMAR_CANDIDATES : 0));
}

// The n highest logits into candidates_, the mask id left out.
void Sampler::collect(const float * logits, size_t n) {
    const int n_vocab = model_.n_vocab();
    const llama_token mask = model_.mask_token();
    candidates_.clear();
    if (n >= size_t(n_vocab)) {
        for (llama_token i = 0; i < n_vocab; ++i) {
            if (i != mask) {
                candidates_.push_back({i, logits[i], 0.0f});
            }
        }
        return;
    }
    // Twice as many as wanted are gathered before the lower half is dropped: few comparisons per logit.
    float floor = -INFINITY;
    for (llama_token i = 0; i < n_vocab; ++i) {
        if (logits[i] > floor && i != mask) {
            candidates_.push_back({i, logits[i], 0.0f});
            if (candidates_.size() >= 2 * n + 64) {
                std::nth_element(candidates_.begin(), candidates_.begin() + n - 1, candidates_.end(), higher);
                candidates_.resize(n);
                floor = candidates_[n - 1].logit;
            }
        }
    }
    if (candidates_.size() > n) {
        std::nth_element(candidates_.begin(), candidates_.begin() + n - 1, candidates_.end(), higher);
        candidates_.resize(n);
    }
}

void Sampler::add_biased(const float * logits) {
    for (const llama_logit_bias & bias : options_.logit_bias) {
        const auto same = [&](const llama_token_data & c) { return c.id == bias.token; };
        if (bias.token != model_.mask_token() && std::none_of(candidates_.begin(), candidates_.end(), same)) {
            candidates_.push_back({bias.token, logits[bias.token], 0.0f});
        }
    }
}

// Bias, penalties and grammar; false when fewer than `wanted` candidates remain.
bool Sampler::apply_history(size_t wanted) {
    llama_token_data_array array{candidates_.data(), candidates_.size(), -1, false};
    llama_sampler_apply(history_.get(), &array);
    candidates_.resize(array.size);
    apply_grammar(grammar_.get());
    return candidates_.size() >= wanted;
}

// Drops what the grammar (null: none) or a bias forbids; false when nothing is left.
bool Sampler::apply_grammar(llama_sampler * grammar) {
    if (grammar) {
        llama_token_data_array array{candidates_.data(), candidates_.size(), -1, false};
        llama_sampler_apply(grammar, &array);
        candidates_.resize(array.size);
    }
    const auto forbidden = [](const llama_token_data & c) { return c.logit == -INFINITY; };
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), forbidden), candidates_.end());
    return !candidates_.empty();
}

Distribution Sampler::truncate() {
    if (options_.greedy()) {
        return Distribution::certain(std::min_element(candidates_.begin(), candidates_.end(), higher)->id);
    }
    // An order that does not depend on how the candidates were gathered.
    std::sort(candidates_.begin(), candidates_.end(), higher);
    llama_token_data_array array{candidates_.data(), candidates_.size(), -1, true};
    llama_sampler_apply(truncation_.get(), &array);
    float highest = -INFINITY;
    for (size_t i = 0; i < array.size; ++i) {
        highest = std::max(highest, array.data[i].logit);
    }
    double total = 0.0;
    for (size_t i = 0; i < array.size; ++i) {
        total += std::exp(static_cast<double>(array.data[i].logit) - highest);
    }
    std::vector<Candidate> kept;
    for (size_t i = 0; i < array.size; ++i) {
        const double weight = std::exp(static_cast<double>(array.data[i].logit) - highest);
        kept.push_back({array.data[i].id, static_cast<float>(weight / total)});
    }
    return Distribution(std::move(kept));
}

Distribution Sampler::target(const float * logits) {
    const size_t n_vocab = model_.n_vocab();
    const size_t wanted = options_.greedy() ? 1 : options_.top_k > 0 ? options_.top_k : n_vocab;
    for (size_t n = reduced_size();; n = std::min(n_vocab, 4 * n)) {
        collect(logits, n);
        add_biased(logits);
        if (apply_history(wanted) || n == n_vocab) {
            break;
        }
    }
    if (candidates_.empty()) {
        throw std::runtime_error("grammar and logit bias together allow no token");
    }
    return truncate();
}

Distribution Sampler::proposal(const float * logits) {
    const size_t n = options_.top_k > 0 ? std::min<size_t>(options_.top_k, PROPOSAL_CANDIDATES) : PROPOSAL_CANDIDATES;
    if (!draft_grammar_ || !collect_grammatical(logits)) {
        collect(logits, options_.greedy() ? 1 : n);
    }
    return truncate();
}

// Into candidates_ those of the highest logits that may follow the drafts; false when no token may.
bool Sampler::collect_grammatical(const float * logits) {
    const size_t n_vocab = model_.n_vocab();
    for (size_t n = std::min(GRAMMAR_CANDIDATES, n_vocab);; n = std::min(n_vocab, 4 * n)) {
        collect(logits, n);
        if (apply_grammar(draft_grammar_.get())) {
            return true;
        }
        if (n == n_vocab) {
            draft_grammar_.reset();
            return false;
        }
    }
}

void Sampler::begin_draft() { draft_grammar_.reset(grammar_ ? llama_sampler_clone(grammar_.get()) : nullptr); }

void Sampler::accept_draft(llama_token token) {
    if (draft_grammar_) {
        llama_sampler_accept(draft_grammar_.get(), token);
    }
}

llama_token Sampler::draw(const Distribution & target, int32_t position) const {
    if (options_.greedy()) {
        return target.candidates().front().token;
    }
    return options_.coupled ? target.draw_gumbel(options_.seed, position)
                            : target.draw(uniform(options_.seed, position, Draw::target));
}

llama_token Sampler::draw_draft(const Distribution & proposal, int32_t position, int draft) const {
    if (options_.greedy()) {
        return proposal.candidates().front().token;
    }
    return options_.coupled
               ? proposal.draw_gumbel(options_.seed, position)
               : proposal.draw(uniform(options_.seed, position, Draw::draft, static_cast<uint32_t>(draft)));
}

llama_token Sampler::draw_candidate(const float * logits, int32_t position, int pass) {
    return proposal(logits).draw(uniform(options_.seed, position, Draw::draft, static_cast<uint32_t>(pass)));
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

void Sampler::accept(llama_token token) {
    llama_sampler_accept(history_.get(), token);
    if (grammar_) {
        llama_sampler_accept(grammar_.get(), token);
    }
}

}  // namespace trimode
