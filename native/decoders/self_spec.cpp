#include "self_spec.h"

#include <algorithm>

namespace trimode {

void SelfSpecDecoder::begin(const Forward & forward, int row) {
    Decoder::begin(forward, row);
    acceptance_ = request_.draft_length->new_request();
    choose_length();
}

// A cycle emits at most as many tokens as its block is long: never more than are still wanted.
void SelfSpecDecoder::choose_length() {
    const int fixed = request_.options.block_length;
    const int wanted = fixed > 0 ? fixed : request_.draft_length->choose(*acceptance_, request_.draft_length->load());
    length_ = std::min(wanted, request_.remaining());
}

int SelfSpecDecoder::plan_decode(Batch & batch) {
    if (phase_ == Phase::draft) {
        const int length = std::min(length_, batch.room());
        if (length > 1) {
            return plan_draft(batch, length);
        }
        phase_ = Phase::verify;  // nothing to draft: one causal row, as in AR
        draft_.clear();
    }
    if (static_cast<int>(draft_.size()) + 1 > batch.room()) {
        return -1;  // the pass is full: verify in the next one
    }
    std::vector<llama_token> tokens{last_};
    tokens.insert(tokens.end(), draft_.begin(), draft_.end());
    if (!draft_.empty() && is_end(draft_.back())) {
        tokens.pop_back();  // nothing follows an end-of-generation token: its own logits are not needed
    }
    rows_ = static_cast<int>(tokens.size());
    return batch.add_causal(*request_.sequence, tokens, sampled(), sampled());
}

int SelfSpecDecoder::plan_draft(Batch & batch, int length) {
    std::vector<llama_token> block(length, model_.mask_token());
    block[0] = last_;
    rows_ = length;
    return batch.add_block(*request_.sequence, block, Want::nothing, drafted(), request_.options.use_lora);
}

void SelfSpecDecoder::consume_decode(Batch & batch, const Forward & forward) {
    if (phase_ == Phase::draft) {
        take_draft(forward);
        request_.draft = draft_;
        phase_ = Phase::verify;
    } else {
        verify(batch, forward);
        phase_ = Phase::draft;
        choose_length();
    }
}

void SelfSpecDecoder::take_draft(const Forward & forward) {
    planned_drafts_ = rows_ - 1;
    draft_.clear();
    proposals_.clear();
    sampler_->begin_draft();
    for (int i = 1; i < rows_; ++i) {
        const int row = first_row_ + i;
        if (plain_argmax_) {
            draft_.push_back(forward.output(row).token);
        } else {
            proposals_.push_back(sampler_->proposal(forward.logits(row)));
            draft_.push_back(sampler_->draw_draft(proposals_.back(), request_.sequence->size() + i));
            sampler_->accept_draft(draft_.back());
        }
        if (is_end(draft_.back())) {
            break;  // what a draft says behind the end is not worth verifying
        }
    }
}

// Row i stands at position size + i; its logits predict the next one, where draft i would stand.
Sampler::Verdict SelfSpecDecoder::check(const Forward & forward, int i) {
    if (const llama_token forced = thinking_.forced(); forced >= 0) {
        return {forced == draft_[i], forced};
    }
    if (plain_argmax_) {
        const llama_token token = forward.output(first_row_ + i).token;
        return {token == draft_[i], token};
    }
    const Distribution target = sampler_->target(forward.logits(first_row_ + i));
    return sampler_->verify(target, proposals_[i], draft_[i], request_.sequence->size() + i + 1);
}

void SelfSpecDecoder::verify(Batch & batch, const Forward & forward) {
    const int n_draft = static_cast<int>(draft_.size());
    int accepted = 0;
    int emitted = 0;
    // Each row's target depends on the tokens emitted before it (penalties, grammar): one after the other.
    for (bool go_on = true; go_on && !finished() && emitted < rows_; ++emitted) {
        const int row = first_row_ + emitted;
        if (emitted < n_draft) {
            const Sampler::Verdict verdict = check(forward, emitted);
            emit(forward, row, verdict.token);
            accepted += verdict.accepted;
            go_on = verdict.accepted;
        } else {
            emit(forward, row, sample(forward, row, request_.sequence->size() + emitted + 1));
        }
    }
    batch.commit(*request_.sequence, first_row_, emitted);  // the last token emitted is not in the cache
    if (n_draft > 0) {
        learn(accepted);
    }
    request_.stats.drafted += n_draft;
    request_.stats.accepted += accepted;
    request_.stats.cycles += n_draft > 0;
}

// Drafts behind the end of the text count as rejected: they cost as much.
void SelfSpecDecoder::learn(int accepted) {
    acceptance_->observe(planned_drafts_, accepted);
    if (request_.options.use_lora) {
        request_.draft_length->observe_cycle(planned_drafts_, accepted);
    }
}

}  // namespace trimode
