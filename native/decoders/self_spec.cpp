#include "self_spec.h"

#include <algorithm>

namespace trimode {

int SelfSpecDecoder::plan_decode(Batch & batch) {
    if (phase_ == Phase::draft) {
        // A cycle emits at most as many tokens as its block is long: never more than are still wanted.
        const int length = std::min({request_.options.block_length, request_.remaining(), batch.room()});
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
    return batch.add_causal(*request_.sequence, tokens, Want::token, Want::token);
}

int SelfSpecDecoder::plan_draft(Batch & batch, int length) {
    std::vector<llama_token> block(length, model_.mask_token());
    block[0] = last_;
    rows_ = length;
    return batch.add_block(*request_.sequence, block, Want::nothing, Want::token, request_.options.use_lora);
}

void SelfSpecDecoder::consume_decode(Batch & batch, const Forward & forward) {
    if (phase_ == Phase::draft) {
        take_draft(forward);
        phase_ = Phase::verify;
    } else {
        verify(batch, forward);
        phase_ = Phase::draft;
    }
}

void SelfSpecDecoder::take_draft(const Forward & forward) {
    draft_.clear();
    for (int i = 1; i < rows_; ++i) {
        draft_.push_back(forward.output(first_row_ + i).token);
        if (is_end(draft_.back())) {
            break;  // what a draft says behind the end is not worth verifying
        }
    }
}

void SelfSpecDecoder::verify(Batch & batch, const Forward & forward) {
    const int n_draft = static_cast<int>(draft_.size());
    int accepted = 0;
    while (accepted < n_draft && forward.output(first_row_ + accepted).token == draft_[accepted]) {
        ++accepted;
    }
    // The token of row i follows row i; the last one emitted is not in the cache.
    const int emitted = std::min(accepted + 1, rows_);
    batch.commit(*request_.sequence, first_row_, emitted);
    request_.stats.drafted += n_draft;
    request_.stats.accepted += accepted;
    request_.stats.cycles += n_draft > 0;
    for (int i = 0; i < emitted; ++i) {
        emit(forward.output(first_row_ + i).token);
    }
}

}  // namespace trimode
