#include "decoders/diffusion.h"

#include <algorithm>
#include <cmath>

namespace trimode {

// The block is no longer than what is still wanted: max_tokens is exact.
int DiffusionDecoder::next_block_length() const {
    return std::min(request_.options.block_length, request_.remaining() + 1);
}

void DiffusionDecoder::start_block() {
    const int length = next_block_length();
    block_.assign(length, model_.mask_token());
    confidence_.assign(length, 0.0f);
    masked_.assign(length, true);
    n_masked_ = length;
    pass_ = 0;
    decide(0, last_, 1.0f);
    n_settled_ = n_emitted_ = 1;
    ++request_.stats.cycles;
}

void DiffusionDecoder::decide(int i, llama_token token, float confidence) {
    block_[i] = token;
    confidence_[i] = confidence;
    n_masked_ -= masked_[i];
    masked_[i] = false;
}

int DiffusionDecoder::plan_decode(Batch & batch) {
    const int length = block_.empty() ? next_block_length() : static_cast<int>(block_.size());
    if (length > batch.room()) {
        return -1;  // the pass is full: go on in the next one
    }
    if (block_.empty()) {
        start_block();
    }
    if (n_masked_ == 0) {
        return batch.add_causal(*request_.sequence, block_, wants_logprobs() ? Want::logits : Want::nothing, sampled());
    }
    const bool by_margin = request_.options.reveal == Reveal::margin;
    const Want want = !by_argmax() ? sampled() : by_margin ? Want::candidates : Want::confidence;
    return batch.add_block(*request_.sequence, block_, Want::nothing, want, /*lora=*/false);
}

void DiffusionDecoder::consume_decode(Batch & batch, const Forward & forward) {
    if (n_masked_ == 0) {
        commit_block(batch, forward);
        return;
    }
    sampler_->constrained() ? denoise_in_order(forward) : denoise(forward);
    ++pass_;
    settle();
    request_.block = block_;
    request_.confidence = confidence_;
    if (!wants_logprobs()) {
        emit_settled();
    }
}

bool DiffusionDecoder::by_argmax() const {
    const SamplerOptions & sampler = request_.options.sampler;
    return sampler.greedy() && !sampler.changes_blocks() && !sampler_->constrained();
}

Output DiffusionDecoder::candidate(const Forward & forward, int i) const {
    const int row = first_row_ + i;
    if (by_argmax()) {
        Output found = best(forward, row);
        if (request_.options.reveal == Reveal::margin) {
            found.probability = forward.probability(row, found.token);
        }
        return found;
    }
    const float * logits = forward.logits(row);
    const llama_token token = sampler_->draw_candidate(logits, index(i), request_.sequence->size() + i, pass_);
    return {token, logits[token],
            request_.options.sampler.changes_blocks() ? sampler_->confidence(logits, index(i), token)
                                                      : forward.probability(row, token)};
}

// By how much the probability of a candidate is above that of any other token; negative where one is more probable.
float DiffusionDecoder::lead(const Forward & forward, int i, const Output & candidate) const {
    const float * logits = sampler_->of_block(forward.logits(first_row_ + i), index(i));
    float other = -INFINITY;
    for (llama_token token = 0; token < model_.n_vocab(); ++token) {
        if (token != candidate.token && token != model_.mask_token()) {
            other = std::max(other, logits[token]);
        }
    }
    return candidate.probability * (1.0f - std::exp(other - logits[candidate.token]));
}

void DiffusionDecoder::denoise(const Forward & forward) {
    const int length = static_cast<int>(block_.size());
    const Reveal reveal = request_.options.reveal;
    std::vector<Output> candidates(length);
    std::vector<float> sure(length);
    std::vector<int> order;  // masked positions, in the order in which they are revealed
    for (int i = 1; i < length; ++i) {
        if (masked_[i]) {
            candidates[i] = candidate(forward, i);
            sure[i] = reveal == Reveal::margin ? lead(forward, i, candidates[i]) : candidates[i].probability;
            order.push_back(i);
        }
    }
    if (reveal != Reveal::leftmost && !order.empty()) {
        std::stable_sort(order.begin() + (reveal == Reveal::margin), order.end(),
                         [&](int a, int b) { return sure[a] > sure[b]; });
    }
    const int wanted = n_revealed(sure, order);
    for (int k = 0; k < wanted; ++k) {
        const int i = order[k];
        decide(i, candidates[i].token, candidates[i].probability);
    }
}

void DiffusionDecoder::denoise_in_order(const Forward & forward) {
    sampler_->begin_draft();
    int i = n_emitted_;
    while (!masked_[i]) {
        sampler_->accept_draft(block_[i++]);
    }
    const int n = n_masked_;
    for (int revealed = 0; revealed < n; ++revealed, ++i) {
        const float * logits = forward.logits(first_row_ + i);
        const llama_token token = sampler_->draw_candidate(logits, index(i), request_.sequence->size() + i, pass_);
        const float probability = sampler_->confidence(logits, index(i), token);
        if (!goes_on(revealed, n, probability)) {
            return;
        }
        decide(i, token, probability);
        if (is_end(token)) {
            return;
        }
        sampler_->accept_draft(token);
    }
}

// The first one always, so that every pass makes progress; then those at or above the threshold, up to the first that
// is not. Or an equal share of what is left for each of the remaining steps.
bool DiffusionDecoder::goes_on(int n_revealed, int n_masked, float sure) const {
    if (request_.options.steps > 0) {
        const int left = std::max(request_.options.steps - pass_, 1);
        return n_revealed < (n_masked + left - 1) / left;
    }
    return n_revealed == 0 || sure >= request_.options.threshold;
}

int DiffusionDecoder::n_revealed(const std::vector<float> & sure, const std::vector<int> & order) const {
    const int n = static_cast<int>(order.size());
    int wanted = 0;
    while (wanted < n && goes_on(wanted, n, sure[order[wanted]])) {
        ++wanted;
    }
    return wanted;
}

// Tokens with nothing masked before them are final. Where the reasoning budget ends, its end token takes the place, and
// what was denoised behind it is masked again. Nothing follows an end-of-generation token.
void DiffusionDecoder::settle() {
    while (n_settled_ < static_cast<int>(block_.size())) {
        const llama_token forced = thinking_.forced();
        if (forced >= 0 && block_[n_settled_] != forced) {
            force(forced);
        }
        if (masked_[n_settled_]) {
            return;
        }
        const llama_token token = block_[n_settled_++];
        Decoder::decide(token);
        if (is_end(token)) {
            block_.resize(n_settled_);
            confidence_.resize(n_settled_);
            n_masked_ = 0;
        }
    }
}

void DiffusionDecoder::force(llama_token token) {
    decide(n_settled_, token, 1.0f);
    for (size_t i = n_settled_ + 1; i < block_.size(); ++i) {
        n_masked_ += !masked_[i];
        masked_[i] = true;
        block_[i] = model_.mask_token();
        confidence_[i] = 0.0f;
    }
    pass_ = 0;
}

// Final tokens go out at once; an end-of-generation token among them ends the request without the commit pass. With
// logprobs they wait for that pass, whose causal rows give them.
void DiffusionDecoder::emit_settled() {
    while (!finished() && n_emitted_ < n_settled_) {
        put_out(block_[n_emitted_++], nullptr);
    }
}

void DiffusionDecoder::commit_block(Batch & batch, const Forward & forward) {
    int n = n_emitted_;
    for (; !finished() && n < static_cast<int>(block_.size()); ++n) {
        put_out(block_[n], wants_logprobs() ? forward.logits(first_row_ + n - 1) : nullptr);
    }
    batch.commit(*request_.sequence, first_row_, finished() ? n - 1 : n);
    block_.clear();
    if (!finished()) {
        const int row = first_row_ + n - 1;
        emit(forward, row, sample(forward, row, request_.sequence->size()));
    }
}

}  // namespace trimode
