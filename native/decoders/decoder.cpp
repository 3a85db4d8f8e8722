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

std::unique_ptr<Decoder> make_decoder(const Model & model, Request & request) {
    switch (request.options.mode) {
        case Mode::ar: return std::make_unique<ArDecoder>(model, request);
        case Mode::diffusion: return std::make_unique<DiffusionDecoder>(model, request);
        case Mode::self_spec: return std::make_unique<SelfSpecDecoder>(model, request);
    }
    throw std::logic_error("no decoder for this mode");
}

void Decoder::plan(Batch & batch) {
    first_row_ = -1;
    prefill_rows_ = 0;
    if (finished() || batch.room() == 0) {
        return;
    }
    if (!prefilling()) {
        first_row_ = plan_decode(batch);
        return;
    }
    const int done = request_.sequence->size();
    const int rest = static_cast<int>(request_.prompt.size()) - done;
    prefill_rows_ = std::min(rest, batch.room());
    const auto begin = request_.prompt.begin() + done;
    const Want last = prefill_rows_ == rest ? Want::token : Want::nothing;
    first_row_ = batch.add_causal(*request_.sequence, {begin, begin + prefill_rows_}, Want::nothing, last);
}

void Decoder::consume(Batch & batch, const Forward & forward) {
    if (first_row_ < 0) {
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
        emit(forward.output(first_row_ + prefill_rows_ - 1).token);
    }
}

void Decoder::emit(llama_token token) {
    if (finished()) {
        return;
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
