#include "decoder.h"

#include <algorithm>
#include <stdexcept>

#include "ar.h"
#include "diffusion.h"
#include "self_spec.h"

namespace trimode {

Mode parse_mode(const std::string & name) {
    if (name == "ar") {
        return Mode::ar;
    }
    if (name == "diffusion") {
        return Mode::diffusion;
    }
    if (name == "self-spec") {
        return Mode::self_spec;
    }
    throw std::invalid_argument("unknown mode \"" + name + "\"; modes: ar, diffusion, self-spec");
}

Reveal parse_reveal(const std::string & name) {
    if (name == "confidence") {
        return Reveal::confidence;
    }
    if (name == "leftmost") {
        return Reveal::leftmost;
    }
    throw std::invalid_argument("unknown reveal order \"" + name + "\"; orders: confidence, leftmost");
}

std::unique_ptr<Decoder> make_decoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler) {
    switch (request.options.mode) {
        case Mode::ar:
            return std::make_unique<ArDecoder>(model, request, std::move(sampler));
        case Mode::diffusion:
            return std::make_unique<DiffusionDecoder>(model, request, std::move(sampler));
        case Mode::self_spec:
            return std::make_unique<SelfSpecDecoder>(model, request, std::move(sampler));
    }
    throw std::logic_error("no decoder for this mode");
}

// A prompt is cut at multiples of the batch size wherever its prefill begins, and each part keeps the attention kernel
// that it has in a prefill from nothing: a prompt found in the cache gives the same bits as a new one.
int Decoder::prefill_chunk_end(int capacity) const {
    const int done = request_.sequence->size();
    return std::min(static_cast<int>(request_.prompt.size()), (done / capacity + 1) * capacity);
}

bool Decoder::is_tiled(int capacity) const {
    const int chunk_begin = request_.sequence->size() / capacity * capacity;
    return prefilling() && prefill_chunk_end(capacity) - chunk_begin >= TILE_ROWS;
}

void Decoder::plan(Batch & batch, bool tiled) {
    if (finished() || is_tiled(batch.capacity()) != tiled) {
        return;
    }
    first_row_ = -1;
    prefill_rows_ = 0;
    if (batch.room() == 0) {
        return;
    }
    if (!prefilling()) {
        first_row_ = plan_decode(batch);
        return;
    }
    const int done = request_.sequence->size();
    prefill_rows_ = std::min(prefill_chunk_end(batch.capacity()) - done, batch.room());
    const auto begin = request_.prompt.begin() + done;
    const bool complete = done + prefill_rows_ == static_cast<int>(request_.prompt.size());
    first_row_ = batch.add_causal(*request_.sequence, {begin, begin + prefill_rows_}, Want::nothing,
                                  complete ? sampled() : Want::nothing, tiled);
}

void Decoder::consume(Batch & batch, const Forward & forward) {
    if (finished() || first_row_ < 0) {
        return;
    }
    if (prefill_rows_ == 0) {
        ++request_.stats.forward_passes;
        consume_decode(batch, forward);
        return;
    }
    ++request_.stats.prefill_passes;
    batch.commit(*request_.sequence, first_row_, prefill_rows_);
    if (!prefilling()) {
        emit(sample(forward, first_row_ + prefill_rows_ - 1, request_.sequence->size()));
    }
}

llama_token Decoder::sample(const Forward & forward, int row, int32_t position) {
    return plain_argmax_ ? forward.output(row).token : sampler_->draw(sampler_->target(forward.logits(row)), position);
}

void Decoder::emit(llama_token token) {
    if (finished()) {
        return;
    }
    if (!plain_argmax_) {
        sampler_->accept(token);
    }
    last_ = token;
    request_.emitted.push_back(token);
    ++request_.stats.completion_tokens;
    if (is_end(token)) {
        request_.finish = Finish::stop;
    } else if (request_.remaining() <= 0) {
        request_.finish = Finish::length;
    }
}

}  // namespace trimode
