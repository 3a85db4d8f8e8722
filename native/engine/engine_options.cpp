#include "engine/engine_options.h"

#include <algorithm>
#include <map>
#include <stdexcept>

namespace trimode {

namespace {

constexpr int MAX_CELLS = 1 << 24;

void check_positive(const char * name, int value) {
    if (value < 1) {
        throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + "; it must be at least 1");
    }
}

}  // namespace

EngineOptions checked(const Model & model, EngineOptions options) {
    if (model.vocab_only()) {
        throw std::invalid_argument("the model was loaded with vocab_only: it has no weights to run");
    }
    check_positive("n_ctx", options.n_ctx);
    check_positive("n_batch", options.n_batch);
    check_positive("n_ubatch", options.n_ubatch);
    check_positive("n_parallel", options.n_parallel);
    if (options.n_ctx > MAX_CELLS) {
        throw std::invalid_argument("n_ctx is " + std::to_string(options.n_ctx) + "; the cache can have at most " +
                                    std::to_string(MAX_CELLS) + " cells");
    }
    if (options.exact_rows < 0 || options.exact_rows > options.n_batch) {
        throw std::invalid_argument("exact_rows is " + std::to_string(options.exact_rows) +
                                    "; it must be between 0 and n_batch (" + std::to_string(options.n_batch) + ")");
    }
    const auto & steps = options.row_steps;
    if (!std::is_sorted(steps.begin(), steps.end()) || (!steps.empty() && steps.front() < 1)) {
        throw std::invalid_argument("row_steps: the numbers of rows must be positive and ascending");
    }
    return options;
}

ggml_type parse_cache_type(const std::string & name, const char * option, bool flash_attn, int head_dim) {
    static const std::map<std::string, ggml_type> TYPES = {
        {"f32", GGML_TYPE_F32},   {"f16", GGML_TYPE_F16},   {"bf16", GGML_TYPE_BF16}, {"q8_0", GGML_TYPE_Q8_0},
        {"q4_0", GGML_TYPE_Q4_0}, {"q4_1", GGML_TYPE_Q4_1}, {"q5_0", GGML_TYPE_Q5_0}, {"q5_1", GGML_TYPE_Q5_1},
    };
    const auto found = TYPES.find(name);
    if (found == TYPES.end()) {
        throw std::invalid_argument(std::string(option) + ": unknown cache type \"" + name +
                                    "\"; types: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1");
    }
    if (!flash_attn && ggml_is_quantized(found->second)) {
        throw std::invalid_argument(std::string(option) + ": a quantized cache (" + name + ") needs flash attention");
    }
    const int64_t block = ggml_blck_size(found->second);
    if (head_dim % block != 0) {
        throw std::invalid_argument(std::string(option) + ": cache type " + name + " works in blocks of " +
                                    std::to_string(block) + ", which do not divide the head size of " +
                                    std::to_string(head_dim));
    }
    return found->second;
}

}  // namespace trimode
