#include "diffusion.h"

#include <algorithm>

namespace trimode {

// The block is no longer than what is still wanted: max_tokens is exact.
bool DiffusionDecoder::start_block(const Batch & batch) {
    const int length = std::min(request_.options.block_length, request_.remaining() + 1);
    if (length > batch.room()) {
        return false;
    }
    block_.assign(length, model_.mask_token());
    confidence_.assign(length, 0.0f);
    masked_.assign(length, true);
    block_[0] = last_;
    confidence_[0] = 1.0f;
    masked_[0] = false;
    n_masked_ = length - 1;
    n_emitted_ = 1;
    ++request_.stats.cycles;
    return true;
}

int DiffusionDecoder::plan_decode(Batch & batch) {
    if (block_.empty() ? !start_block(batch) : static_cast<int>(block_.size()) > batch.room()) {
        return -1;  // the pass is full: go on in the next one
    }
    if (n_masked_ == 0) {
        return batch.add_causal(*request_.sequence, block_, Want::nothing, Want::token);
    }
    return batch.add_block(*request_.sequence, block_, Want::nothing, Want::confidence, /*lora=*/false);
}

void DiffusionDecoder::consume_decode(Batch & batch, const Forward & forward) {
    if (n_masked_ == 0) {
        commit_block(batch, forward);
        return;
    }
    denoise(forward);
    request_.block = block_;
    request_.confidence = confidence_;
    emit_revealed();
}

void DiffusionDecoder::denoise(const Forward & forward) {
    const int length = static_cast<int>(block_.size());
    int best = -1;
    for (int i = 1; i < length; ++i) {
        if (masked_[i] &&
            (best < 0 || forward.output(first_row_ + i).probability > forward.output(first_row_ + best).probability)) {
            best = i;
        }
    }
    for (int i = 1; i < length; ++i) {
        const Output & candidate = forward.output(first_row_ + i);
        if (masked_[i] && (i == best || candidate.probability >= request_.options.threshold)) {
            block_[i] = candidate.token;
            confidence_[i] = candidate.probability;
            masked_[i] = false;
            --n_masked_;
        }
    }
}

// Committed tokens are final, so those with nothing masked before them can go out at once; an end-of-generation token
// among them ends the request without waiting for the rest of the block.
void DiffusionDecoder::emit_revealed() {
    while (!finished() && n_emitted_ < static_cast<int>(block_.size()) && !masked_[n_emitted_]) {
        emit(block_[n_emitted_++]);
    }
}

void DiffusionDecoder::commit_block(Batch & batch, const Forward & forward) {
    const int length = static_cast<int>(block_.size());
    batch.commit(*request_.sequence, first_row_, length);
    block_.clear();
    emit(forward.output(first_row_ + length - 1).token);
}

}  // namespace trimode
