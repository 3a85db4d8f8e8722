#include "sampling/constraint.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <stdexcept>
#include <utility>

#include "model/model.h"

namespace trimode {

namespace {

// What all rows of a request may cost together, in seconds of a processor. JSON takes 0.00002 a row; a row at the
// bounds of llguidance 0.03 (see constraint_vocab.cpp).
constexpr double BUDGET = 1.0, BUDGET_PER_TOKEN = 0.02;

double thread_seconds() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

Constraint::Constraint(const Model & model, const std::string & lark, llama_token after)
    : model_(model), matcher_(model.constraint_vocab().matcher(lark)), after_(after) {
    bits_.resize(llg::api().matcher_get_mask_byte_size(matcher_.get()) / sizeof(uint32_t));
}

template <typename Work>
auto Constraint::within_budget(Work work) {
    if (seconds_ > BUDGET + BUDGET_PER_TOKEN * static_cast<double>(n_accepted_)) {
        throw std::runtime_error("grammar: it takes too long to find out what it allows; make it less ambiguous");
    }
    const double begin = thread_seconds();
    const auto result = work();
    seconds_ += thread_seconds() - begin;
    return result;
}

void Constraint::fail() const {
    const char * error = llg::api().matcher_get_error(matcher_.get());
    throw std::runtime_error(std::string("grammar: ") + (error ? error : "it cannot go on"));
}

bool Constraint::allows(llama_token token) {
    if (after_ >= 0) {
        return !model_.is_eog(token);
    }
    if (model_.is_eog(token)) {
        return llg::api().matcher_is_accepting(matcher_.get());
    }
    const auto id = static_cast<uint32_t>(token);
    const int32_t n = within_budget([&] { return llg::api().matcher_validate_tokens(matcher_.get(), &id, 1); });
    if (n < 0) {
        fail();
    }
    return n == 1;
}

void Constraint::mask(float * logits) {
    const int n_vocab = model_.n_vocab();
    if (after_ >= 0) {
        for (const uint32_t token : model_.constraint_vocab().ends()) {
            logits[token] = -INFINITY;
        }
        return;
    }
    std::vector<std::pair<uint32_t, float>> ends;  // all of them are alike
    for (const uint32_t token : model_.constraint_vocab().ends()) {
        ends.emplace_back(token, allows(static_cast<llama_token>(token)) ? logits[token] : -INFINITY);
    }
    const int32_t rc = within_budget([&] {
        return llg::api().matcher_compute_mask_into(matcher_.get(), bits_.data(), bits_.size() * sizeof(uint32_t));
    });
    if (rc != 0) {
        fail();
    }
    for (int begin = 0; begin < n_vocab; begin += 32) {
        const uint32_t word = bits_[begin / 32];  // most have no bit, or all
        const int end = std::min(n_vocab, begin + 32);
        if (word == 0) {
            std::fill(logits + begin, logits + end, -INFINITY);
        } else if (word != UINT32_MAX) {
            for (int i = begin; i < end; ++i) {
                logits[i] = (word >> (i - begin)) & 1 ? logits[i] : -INFINITY;
            }
        }
    }
    for (const auto & [token, logit] : ends) {
        logits[token] = logit;
    }
}

// An end is never told to the matcher: it allows nothing behind it, where ignore_eos goes on.
bool Constraint::consume(llama_token token) {
    return model_.is_eog(token) ||
           within_budget([&] { return llg::api().matcher_consume_token(matcher_.get(), token); }) == 0;
}

void Constraint::accept(llama_token token) {
    rollback();
    ++n_accepted_;
    if (after_ >= 0) {
        after_ = token == after_ ? -1 : after_;
        return;
    }
    // Tokens that are drawn are allowed: another one was put in their place.
    if (!allows(token)) {
        throw std::runtime_error("grammar: it does not allow the token " + std::to_string(token) +
                                 ", which ends the reasoning");
    }
    if (!consume(token)) {
        fail();
    }
}

bool Constraint::try_out(llama_token token) {
    if (after_ >= 0) {
        if (token == after_) {
            guessed_after_ = after_;
            after_ = -1;
        }
        return true;
    }
    if (!allows(token)) {
        return false;
    }
    if (!consume(token)) {
        fail();
    }
    n_guessed_ += !model_.is_eog(token);
    return true;
}

void Constraint::rollback() {
    if (n_guessed_ > 0 && llg::api().matcher_rollback(matcher_.get(), n_guessed_) != 0) {
        fail();
    }
    n_guessed_ = 0;
    after_ = guessed_after_ >= 0 ? guessed_after_ : after_;
    guessed_after_ = -1;
}

}  // namespace trimode
