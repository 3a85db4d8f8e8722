#include "decoders/decoder.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "decoders/ar.h"
#include "decoders/diffusion.h"
#include "decoders/infill.h"
#include "decoders/self_spec.h"

namespace trimode {

std::unique_ptr<Decoder> make_decoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler,
                                      int n_batch) {
    switch (request.options.mode) {
        case Mode::ar:
            return std::make_unique<ArDecoder>(model, request, std::move(sampler), n_batch);
        case Mode::diffusion:
            if (!request.options.suffix.empty()) {
                return std::make_unique<InfillDecoder>(model, request, std::move(sampler), n_batch);
            }
            return std::make_unique<DiffusionDecoder>(model, request, std::move(sampler), n_batch);
        case Mode::self_spec:
            return std::make_unique<SelfSpecDecoder>(model, request, std::move(sampler), n_batch);
    }
    throw std::logic_error("no decoder for this mode");
}

Decoder::Decoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler, int n_batch)
    : model_(model),
      request_(request),
      sampler_(std::move(sampler)),
      thinking_(request.prompt, request.options.think_begin, request.options.think_end,
                request.options.max_thinking_tokens),
      plain_argmax_(request.options.sampler.plain_argmax()),
      stop_(request.options.stop),
      n_batch_(n_batch) {
    if (request.options.loop_window > 0) {
        loop_.emplace(request.options.loop_window, request.options.loop_min_repeats);
    }
}

void Decoder::plan(Batch & batch, int n_rows) {
    first_row_ = -1;
    prefill_rows_ = 0;
    if (!prefilling()) {
        first_row_ = plan_decode(batch);
        return;
    }
    const int done = request_.sequence->size();
    prefill_rows_ = n_rows;
    const auto begin = request_.prompt.begin() + done;
    const bool complete = done + prefill_rows_ == prefill_size();
    first_row_ = batch.add_causal(*request_.sequence, {begin, begin + prefill_rows_}, Want::nothing,
                                  complete ? sampled() : Want::nothing);
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
    batch.commit(*request_.sequence, first_row_, prefill_rows_);
    if (!prefilling()) {
        begin(forward, first_row_ + prefill_rows_ - 1);
    }
}

void Decoder::begin(const Forward & forward, int row) {
    emit(forward, row, sample(forward, row, request_.sequence->size()));
}

Output Decoder::best(const Forward & forward, int row) const {
    const Output output = forward.output(row);
    if (!std::isfinite(output.logit)) {
        model_.fail_not_finite();
    }
    return output;
}

llama_token Decoder::sample(const Forward & forward, int row, int32_t position) {
    const llama_token forced = thinking_.forced();
    if (forced >= 0) {
        return forced;
    }
    return plain_argmax_ ? best(forward, row).token : sampler_->draw(sampler_->target(forward.logits(row)), position);
}

void Decoder::emit(const Forward & forward, int row, llama_token token) {
    if (!finished()) {
        decide(token);
        put_out(token, wants_logprobs() ? forward.logits(row) : nullptr);
    }
}

void Decoder::put_out(llama_token token, const float * logits) {
    if (finished()) {
        return;
    }
    if (wants_logprobs()) {
        report_logprobs(token, logits);
    }
    if (!plain_argmax_) {
        sampler_->accept(token);
    }
    last_ = token;
    request_.emitted.push_back(token);
    ++request_.stats.completion_tokens;
    const bool may_end = request_.stats.completion_tokens > request_.options.sampler.min_tokens;
    if (is_end(token)) {
        request_.finish = Finish::stop;
    } else if (!stop_.empty() && stop_.push(model_.token_to_piece(token, is_reasoning_tag(token))) && may_end) {
        request_.finish = Finish::stop;
    } else if (is_loop(token) && may_end) {
        request_.finish = Finish::loop;
    } else if (request_.remaining() <= 0) {
        request_.finish = Finish::length;
    }
}

void Decoder::report_logprobs(llama_token token, const float * logits) {
    const int n_top = request_.options.logprobs;
    request_.logprobs.push_back(request_.options.post_sampling_probs
                                    ? logprobs(sampler_->target(logits), token, n_top)
                                    : logprobs(logits, model_.n_vocab(), model_.mask_token(), token, n_top));
}

bool Decoder::is_loop(llama_token token) {
    if (!loop_ || !loop_->push(token)) {
        return false;
    }
    request_.stats.loop_period = loop_->period();
    request_.stats.loop_repeated = loop_->repeated();
    return true;
}

}  // namespace trimode
