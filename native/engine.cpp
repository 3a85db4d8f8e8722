#include "engine.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "speculation/pass_timer.h"

namespace trimode {

namespace {

constexpr int CELL_BUCKET = 256;
constexpr int MAX_CELLS = 1 << 24;
constexpr int DEFAULT_MAX_DRAFT = 32;  // where the file does not tell

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

// A draft longer than the blocks that the model was trained on is not worth trying.
int max_draft_length(const Model & model) {
    const auto metadata = model.metadata();
    const auto found = metadata.find("trimode.block_length");
    const int trained = found == metadata.end() ? 0 : std::atoi(found->second.c_str());
    return trained > 0 ? trained : DEFAULT_MAX_DRAFT;
}

EngineOptions checked(const Model & model, EngineOptions options) {
    if (model.vocab_only()) {
        throw std::invalid_argument("the model was loaded with vocab_only: it has no weights to run");
    }
    const auto positive = [](const char * name, int value) {
        if (value < 1) {
            throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + "; it must be at least 1");
        }
    };
    positive("n_ctx", options.n_ctx);
    positive("n_batch", options.n_batch);
    positive("n_parallel", options.n_parallel);
    if (int64_t(options.n_ctx) * options.n_parallel > MAX_CELLS) {
        throw std::invalid_argument("n_ctx is " + std::to_string(options.n_ctx) + " for each of " +
                                    std::to_string(options.n_parallel) + " slots; the cache can have at most " +
                                    std::to_string(MAX_CELLS) + " cells");
    }
    return options;
}

int common_prefix(const std::vector<llama_token> & a, const std::vector<llama_token> & b) {
    const size_t n = std::min(a.size(), b.size());
    size_t i = 0;
    while (i < n && a[i] == b[i]) {
        ++i;
    }
    return static_cast<int>(i);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Engine::Engine(const Model & model, const EngineOptions & options)
    : model_(model),
      options_(checked(model, options)),
      cache_(model, static_cast<int>(GGML_PAD(options.n_ctx * options.n_parallel, CELL_BUCKET)),
             parse_cache_type(options.type_k, "type_k", options.flash_attn, model.hparams().head_dim),
             parse_cache_type(options.type_v, "type_v", options.flash_attn, model.hparams().head_dim)),
      forward_(model, cache_, {options.n_batch, options.n_threads, options.flash_attn, options.use_scheduler}),
      batch_(cache_, options.n_batch),
      draft_length_(std::min(options.n_batch, max_draft_length(model))),
      slots_(options.n_parallel) {}

void Engine::check_tokens(const std::vector<llama_token> & tokens) const {
    if (tokens.empty()) {
        throw std::invalid_argument("the prompt has no tokens");
    }
    if (static_cast<int>(tokens.size()) > options_.n_ctx) {
        throw std::invalid_argument("Requested tokens (" + std::to_string(tokens.size()) +
                                    ") exceed context window of " + std::to_string(options_.n_ctx));
    }
    for (const llama_token token : tokens) {
        if (!model_.is_token(token)) {
            throw std::invalid_argument("token id " + std::to_string(token) + " is not in the vocabulary of " +
                                        std::to_string(model_.n_vocab()));
        }
    }
}

void Engine::check_options(const RequestOptions & options) const {
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
    if (options.loop_window != 0) {
        LoopDetector(options.loop_window, options.loop_min_repeats);
    }
    if (!(options.threshold >= 0.0f && options.threshold <= 1.0f)) {
        throw std::invalid_argument("threshold is " + std::to_string(options.threshold) +
                                    "; it must be between 0 and 1");
    }
}

// The middle, what stands before it and the suffix are one block.
void Engine::check_infill(const RequestOptions & options, int n_prompt) const {
    if (options.suffix.empty()) {
        return;
    }
    check_tokens(options.suffix);
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

int64_t Engine::submit(std::vector<llama_token> prompt, RequestOptions options) {
    const std::lock_guard<std::mutex> lock(mutex_);
    check_tokens(prompt);
    check_options(options);
    check_infill(options, static_cast<int>(prompt.size()));
    const int room = options_.n_ctx - static_cast<int>(prompt.size());
    options.max_tokens = options.max_tokens < 0 ? room : std::min(options.max_tokens, room);

    auto sampler = std::make_unique<Sampler>(model_, options.sampler, options_.n_ctx);

    const int64_t id = next_id_++;
    Active & active = requests_[id];
    active.request.id = id;
    active.request.stats.prompt_tokens = static_cast<int>(prompt.size());
    active.request.prompt = std::move(prompt);
    active.request.options = options;
    active.request.draft_length = &draft_length_;
    active.decoder = make_decoder(model_, active.request, std::move(sampler));
    if (options.max_tokens == 0) {
        active.request.finish = Finish::length;
    }
    queue_.push_back(id);
    return id;
}

// The idle slot that already holds the longest part of the prompt.
Engine::Slot * Engine::idle_slot(const std::vector<llama_token> & prompt) {
    Slot * best = nullptr;
    int longest = -1;
    for (Slot & slot : slots_) {
        const int common = slot.request < 0 ? common_prefix(slot.sequence.tokens, prompt) : -1;
        if (common > longest) {
            best = &slot;
            longest = common;
        }
    }
    return best;
}

void Engine::assign_slots() {
    while (!queue_.empty()) {
        Active & active = requests_.at(queue_.front());
        Request & request = active.request;
        if (request.finish == Finish::none) {
            Slot * slot = idle_slot(request.prompt);
            if (!slot) {
                return;
            }
            // One prompt token at least is computed: its logits give the first new one.
            const int common = common_prefix(slot->sequence.tokens, request.prompt);
            const int reusable = options_.exact_reuse ? slot->sequence.n_prefilled : common;
            const int kept = std::min({common, reusable, static_cast<int>(request.prompt.size()) - 1});
            slot->sequence.truncate(cache_, kept);
            slot->request = request.id;
            request.sequence = &slot->sequence;
            request.stats.cached_tokens = kept;
        }
        queue_.pop_front();
    }
}

std::vector<Event> Engine::step() {
    const std::lock_guard<std::mutex> lock(mutex_);
    assign_slots();
    const auto start = std::chrono::steady_clock::now();
    const PassTimer timer;
    const ForwardTimes before = forward_.times();
    for (const bool tiled : {true, false}) {
        for (Slot & slot : slots_) {
            if (slot.request >= 0) {
                requests_.at(slot.request).decoder->plan(batch_, tiled);
            }
        }
    }
    try {
        forward_.run(batch_);
    } catch (...) {
        batch_.clear();
        throw;
    }
    for (Slot & slot : slots_) {
        if (slot.request >= 0) {
            Active & active = requests_.at(slot.request);
            try {
                active.decoder->consume(batch_, forward_);
            } catch (const std::exception & e) {
                active.request.finish = Finish::failed;
                active.request.error = e.what();
            }
        }
    }
    observe_pass(timer.seconds() - (forward_.times().build - before.build));
    batch_.clear();
    return collect(seconds_since(start), forward_.times().compute - before.compute);
}

// What the choice of the draft length needs to know: passes without prompts, and who shared them.
void Engine::observe_pass(double seconds) {
    int n_requests = 0, n_tokens = 0;
    for (const Slot & slot : slots_) {
        if (slot.request >= 0) {
            const Active & active = requests_.at(slot.request);
            if (active.decoder->planned_prefill()) {
                return;
            }
            ++n_requests;
            n_tokens += static_cast<int>(active.request.emitted.size());
        }
    }
    draft_length_.observe_pass(batch_.size(), seconds);
    draft_length_.observe_crowd(n_requests, batch_.size(), n_tokens);
}

std::vector<Event> Engine::collect(double seconds, double compute_seconds) {
    std::vector<Event> events;
    for (auto & [id, active] : requests_) {
        Request & request = active.request;
        const bool queued = !request.sequence && request.finish == Finish::none;
        if (queued || active.reported) {
            continue;
        }
        (active.prefilled ? request.stats.generation_seconds : request.stats.prompt_seconds) += seconds;
        request.stats.compute_seconds += active.prefilled ? compute_seconds : 0.0;
        active.prefilled = request.stats.completion_tokens > 0;
        events.push_back({id, std::move(request.emitted), std::move(request.block), std::move(request.confidence),
                          std::move(request.logprobs), request.finish, request.error});
        request.emitted.clear();
        request.block.clear();
        request.confidence.clear();
        request.logprobs.clear();
        if (request.finish != Finish::none) {
            free_slot(id);
            active.reported = true;
        }
    }
    return events;
}

void Engine::free_slot(int64_t id) {
    for (Slot & slot : slots_) {
        if (slot.request == id) {
            slot.request = -1;
        }
    }
    requests_.at(id).request.sequence = nullptr;
}

Engine::Active & Engine::find(int64_t id) {
    const auto found = requests_.find(id);
    if (found == requests_.end()) {
        throw std::invalid_argument("no request " + std::to_string(id));
    }
    return found->second;
}

void Engine::cancel(int64_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Request & request = find(id).request;
    if (request.finish == Finish::none) {
        request.finish = Finish::cancelled;
    }
}

Stats Engine::stats(int64_t id) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return const_cast<Engine *>(this)->find(id).request.stats;
}

void Engine::release(int64_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    find(id);
    free_slot(id);
    queue_.erase(std::remove(queue_.begin(), queue_.end(), id), queue_.end());
    requests_.erase(id);
}

void Engine::clear_cache() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Slot & slot : slots_) {
        if (slot.request < 0) {
            slot.sequence.truncate(cache_, 0);
        }
    }
}

std::vector<float> Engine::logits(const std::vector<llama_token> & tokens, int block_start, bool lora) {
    check_tokens(tokens);
    if (lora && !model_.lora()) {
        throw std::invalid_argument("lora: the model was loaded without a drafter LoRA");
    }
    const int n = static_cast<int>(tokens.size());
    const int n_causal = block_start < 0 ? n : std::min(block_start, n);
    if (n - n_causal > options_.n_batch) {
        throw std::invalid_argument("the block of " + std::to_string(n - n_causal) + " rows is longer than n_batch (" +
                                    std::to_string(options_.n_batch) + ")");
    }
    clear_cache();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (cache_.n_free() < n) {
        throw std::runtime_error("no free cells for logits(): other requests are running");
    }
    Sequence sequence;
    std::vector<float> result(size_t(n) * model_.n_vocab());
    const auto run = [&](int begin, int end, bool block) {
        const std::vector<llama_token> part(tokens.begin() + begin, tokens.begin() + end);
        const int first = block ? batch_.add_block(sequence, part, Want::logits, Want::logits, lora)
                                : batch_.add_causal(sequence, part, Want::logits, Want::logits,
                                                    /*tiled=*/end - begin >= TILE_ROWS);
        forward_.run(batch_);
        for (int i = begin; i < end; ++i) {
            const float * row = forward_.logits(first + i - begin);
            std::copy(row, row + model_.n_vocab(), result.begin() + size_t(i) * model_.n_vocab());
        }
        batch_.commit(sequence, first, end - begin);
        batch_.clear();
    };
    for (int begin = 0; begin < n_causal; begin += options_.n_batch) {
        run(begin, std::min(begin + options_.n_batch, n_causal), false);
    }
    if (n_causal < n) {
        run(n_causal, n, true);
    }
    sequence.truncate(cache_, 0);
    return result;
}

}  // namespace trimode
