#include "diffusion.h"

#include <algorithm>

#include "../reduce.h"

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
    pass_ = 0;
    n_emitted_ = 1;
    ++request_.stats.cycles;
    return true;
}

int DiffusionDecoder::plan_decode(Batch & batch) {
    if (block_.empty() ? !start_block(batch) : static_cast<int>(block_.size()) > batch.room()) {
        return -1;  // the pass is full: go on in the next one
    }
    if (n_masked_ == 0) {
        return batch.add_causal(*request_.sequence, block_, Want::nothing, sampled());
    }
    const Want want = request_.options.sampler.greedy() ? Want::confidence : Want::logits;
    return batch.add_block(*request_.sequence, block_, Want::nothing, want, /*lora=*/false);
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

Output DiffusionDecoder::candidate(const Forward & forward, int i) const {
    const int row = first_row_ + i;
    if (request_.options.sampler.greedy()) {
        return forward.output(row);
    }
    const float * logits = forward.logits(row);
    const llama_token token = sampler_->draw_candidate(logits, request_.sequence->size() + i, pass_);
    const float p = probability(logits, model_.n_vocab(), model_.mask_token(), {token, logits[token]});
    return {token, logits[token], p};
}

void DiffusionDecoder::denoise(const Forward & forward) {
    const int length = static_cast<int>(block_.size());
    std::vector<Output> candidates(length);
    std::vector<int> order;  // masked positions, in the order in which they are revealed
    for (int i = 1; i < length; ++i) {
        if (masked_[i]) {
            candidates[i] = candidate(forward, i);
            order.push_back(i);
        }
    }
    if (request_.options.reveal == Reveal::confidence) {
        std::stable_sort(order.begin(), order.end(),
                         [&](int a, int b) { return candidates[a].probability > candidates[b].probability; });
    }
    const int wanted = n_revealed(candidates, order);
    for (int k = 0; k < wanted; ++k) {
        const int i = order[k];
        block_[i] = candidates[i].token;
        confidence_[i] = candidates[i].probability;
        masked_[i] = false;
    }
    n_masked_ -= wanted;
    ++pass_;
}

// The first one always, so that every pass makes progress; then those at or above the threshold, up to the first that
// is not. Or an equal share of what is left for each of the remaining steps.
int DiffusionDecoder::n_revealed(const std::vector<Output> & candidates, const std::vector<int> & order) const {
    const int n = static_cast<int>(order.size());
    if (request_.options.steps > 0) {
        const int left = std::max(request_.options.steps - pass_, 1);
        return (n + left - 1) / left;
    }
    int wanted = 1;
    while (wanted < n && candidates[order[wanted]].probability >= request_.options.threshold) {
        ++wanted;
    }
    return wanted;
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
    emit(sample(forward, first_row_ + length - 1, request_.sequence->size()));
}

}  // namespace trimode
