#include "engine/request_validator.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "model/lora.h"

namespace trimode {

void RequestValidator::check(const std::vector<llama_token> & prompt, const RequestOptions & options) const {
    check_tokens(prompt);
    check_options(options);
    check_infill(options, static_cast<int>(prompt.size()));
    check_exact(options);
}

void RequestValidator::check(const LogitsQuery & query) const {
    check_tokens(query.tokens);
    if (query.lora && !model_.lora()) {
        throw std::invalid_argument("lora: the model was loaded without a drafter LoRA");
    }
    if (query.first < 0 || query.first >= query.size()) {
        throw std::invalid_argument("first " + std::to_string(query.first) + ": must be between 0 and " +
                                    std::to_string(query.size() - 1));
    }
    const int n_block = query.size() - query.n_causal();
    if (n_block > options_.n_batch) {
        throw std::invalid_argument("the block of " + std::to_string(n_block) + " rows is longer than n_batch (" +
                                    std::to_string(options_.n_batch) + ")");
    }
}

void RequestValidator::check(const ScoreQuery & query) const {
    check_tokens(query.prompt);
    if (query.continuations.empty()) {
        throw std::invalid_argument("there are no continuations to score");
    }
    for (const std::vector<llama_token> & tokens : query.continuations) {
        if (tokens.empty() || std::any_of(tokens.begin(), tokens.end(), ImageRows::is_image)) {
            throw std::invalid_argument("a continuation to score has tokens, and no images");
        }
        check_tokens(tokens);
        if (query.prompt.size() + tokens.size() > static_cast<size_t>(options_.n_ctx)) {
            throw std::invalid_argument("Requested tokens (" + std::to_string(query.prompt.size() + tokens.size()) +
                                        ") exceed context window of " + std::to_string(options_.n_ctx));
        }
    }
}

void RequestValidator::settle(std::vector<float> & lora_scales) const {
    const size_t n = model_.adapters().size();
    if (lora_scales.size() > n) {
        throw std::invalid_argument("lora_scales has " + std::to_string(lora_scales.size()) +
                                    " scales; the model was loaded with " + std::to_string(n) + " LoRA adapters");
    }
    for (const float scale : lora_scales) {
        if (!std::isfinite(scale)) {
            throw std::invalid_argument("lora_scales has " + std::to_string(scale) + "; a scale must be finite");
        }
    }
    while (!lora_scales.empty() && lora_scales.back() == 0.0f) {
        lora_scales.pop_back();
    }
}

void RequestValidator::check_tokens(const std::vector<llama_token> & tokens) const {
    if (tokens.empty()) {
        throw std::invalid_argument("the prompt has no tokens");
    }
    if (static_cast<int>(tokens.size()) > options_.n_ctx) {
        throw std::invalid_argument("Requested tokens (" + std::to_string(tokens.size()) +
                                    ") exceed context window of " + std::to_string(options_.n_ctx));
    }
    for (const llama_token token : tokens) {
        const bool is_known = ImageRows::is_image(token) ? images_.ids_of(token) != nullptr : model_.is_token(token);
        if (!is_known) {
            throw std::invalid_argument("token id " + std::to_string(token) + " is not in the vocabulary of " +
                                        std::to_string(model_.n_vocab()));
        }
    }
}

void RequestValidator::check_options(const RequestOptions & options) const {
    if (options.mode != Mode::ar && model_.mask_token() < 0) {
        throw std::invalid_argument("the model names no mask token (tokenizer.ggml.mask_token_id): only mode ar works");
    }
    const int shortest = options.mode == Mode::self_spec ? 0 : 1;
    if (options.block_length < shortest || options.block_length > options_.n_batch) {
        throw std::invalid_argument("block_length is " + std::to_string(options.block_length) +
                                    "; it must be between 1 and n_batch (" + std::to_string(options_.n_batch) + ")");
    }
    if (options.steps < 0) {
        throw std::invalid_argument("steps is " + std::to_string(options.steps) +
                                    "; it must be 0 (by threshold) or more");
    }
    for (const llama_token token : options.stop_token_ids) {
        if (!model_.is_token(token)) {
            throw std::invalid_argument("stop_token_ids: token id " + std::to_string(token) +
                                        " is not in the vocabulary of " + std::to_string(model_.n_vocab()));
        }
    }
    options.simulated.check();
    if (options.simulated && (options.mode != Mode::self_spec || !options.sampler.plain_argmax())) {
        throw std::invalid_argument("simulated acceptance is for greedy requests in mode self-spec");
    }
    if (options.loop_window != 0) {
        LoopDetector(options.loop_window, options.loop_min_repeats);
    }
    if (!(options.threshold >= 0.0f && options.threshold <= 1.0f)) {
        throw std::invalid_argument("threshold is " + std::to_string(options.threshold) +
                                    "; it must be between 0 and 1");
    }
}

void RequestValidator::check_exact(const RequestOptions & options) const {
    if (exact_rows_ == 0 || options.mode != Mode::self_spec) {
        return;
    }
    if (options.fusing == Fusing::always) {
        throw std::invalid_argument("fusing is always: exact passes (exact_rows " + std::to_string(exact_rows_) +
                                    ") have no room for fused cycles; fusing must be never or measured");
    }
    if (options.tree_nodes > 0) {
        throw std::invalid_argument("tree_nodes is " + std::to_string(options.tree_nodes) +
                                    ": with exact passes (exact_rows " + std::to_string(exact_rows_) +
                                    ") there are no trees; tree_nodes must be 0 or -1");
    }
    if (options.block_length > exact_rows_) {
        throw std::invalid_argument("block_length is " + std::to_string(options.block_length) + "; exact passes have " +
                                    std::to_string(exact_rows_) + " rows (exact_rows)");
    }
}

// The middle, what stands before it and the suffix are one block.
void RequestValidator::check_infill(const RequestOptions & options, int n_prompt) const {
    if (options.suffix.empty()) {
        return;
    }
    check_tokens(options.suffix);
    if (std::any_of(options.suffix.begin(), options.suffix.end(), ImageRows::is_image)) {
        throw std::invalid_argument("a suffix cannot have images");
    }
    const int n_suffix = static_cast<int>(options.suffix.size());
    const int block = 1 + options.max_tokens + n_suffix;
    if (options.mode != Mode::diffusion) {
        throw std::invalid_argument("a suffix needs mode diffusion: the others see only what comes before");
    }
    if (options.logprobs >= 0) {
        throw std::invalid_argument("logprobs are those of causal rows: there are none in front of a suffix");
    }
    if (options.max_tokens < 0 || block > options_.n_batch || n_prompt - 1 + block > options_.n_ctx) {
        throw std::invalid_argument("max_tokens " + std::to_string(options.max_tokens) + " and a suffix of " +
                                    std::to_string(n_suffix) + " tokens: the middle and the suffix must fit n_batch (" +
                                    std::to_string(options_.n_batch) + ") together, and with the prompt n_ctx (" +
                                    std::to_string(options_.n_ctx) + ")");
    }
}

}  // namespace trimode
