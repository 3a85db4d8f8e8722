#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <stdexcept>

#include "speculation/pass_timer.h"

namespace trimode {

namespace {

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
    positive("n_ubatch", options.n_ubatch);
    positive("n_parallel", options.n_parallel);
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

constexpr double CHECK_SECONDS = 0.05;  // a thread that waits for another to step looks up so often

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Engine::Engine(const Model & model, const EngineOptions & options)
    : model_(model),
      options_(checked(model, options)),
      cache_(model, static_cast<int>(GGML_PAD(options.n_ctx, CELL_BUCKET)),
             parse_cache_type(options.type_k, "type_k", options.flash_attn, model.hparams().head_dim),
             parse_cache_type(options.type_v, "type_v", options.flash_attn, model.hparams().head_dim)),
      sequences_(cache_),
      images_(model.hparams().n_embd),
      forward_(model, cache_,
               {options.n_batch, options.n_threads, options.flash_attn, options.use_scheduler, options.device_graphs,
                options.fused_stores, options.row_steps, options.images ? &images_ : nullptr}),
      batch_(options.n_batch),
      draft_length_(longest_draft(), Acceptance::published(), forward_.row_steps()),
      threads_(options.n_threads, options.fewer_threads) {
    if (exact_rows() > 0) {
        sequences_.set_whole_batches(options.n_batch);
    }
}

// In exact passes no longer than these.
int Engine::longest_draft() const {
    const int longest = std::min(options_.n_batch, max_draft_length(model_));
    return exact_rows() > 0 ? std::min(longest, exact_rows()) : longest;
}

int64_t Engine::submit(std::vector<llama_token> prompt, RequestOptions options, int64_t channel,
                       std::vector<ImageHandle> images) {
    check_tokens(prompt);
    check_options(options);
    check_infill(options, static_cast<int>(prompt.size()));
    check_exact(options);
    if (exact_rows() > 0 && options.fusing == Fusing::measured) {
        options.fusing = Fusing::never;  // their passes have twice as many rows as others
    }
    const int room = options_.n_ctx - static_cast<int>(prompt.size());
    options.max_tokens = options.max_tokens < 0 ? room : std::min(options.max_tokens, room);

    auto sampler = std::make_unique<Sampler>(model_, options.sampler, options_.n_ctx);
    auto active = std::make_unique<Active>();
    active->images = std::move(images);
    Request & request = active->request;
    request.stats.prompt_tokens = static_cast<int>(prompt.size());
    request.prompt = std::move(prompt);
    request.options = std::move(options);
    request.draft_length = &draft_length_;
    request.stats.simulated_acceptance = bool(request.options.simulated);
    active->decoder = make_decoder(model_, request, std::move(sampler), options_.n_batch);
    if (request.options.max_tokens == 0) {
        request.finish = Finish::length;
    }

    const std::lock_guard<std::mutex> lock(inbox_mutex_);
    request.id = next_id_++;
    const int limit =
        options_.max_queue < 0 ? std::numeric_limits<int>::max() : options_.n_parallel + options_.max_queue;
    mailbox_.open(request.id, channel == 0 ? request.id : channel, limit);
    const int64_t id = request.id;
    inbox_.push_back(std::move(active));
    return id;
}

std::vector<Event> Engine::wait(int64_t channel, const std::function<void()> & check) {
    std::vector<Event> events;
    while (true) {
        const uint64_t seen = mailbox_.changes();
        if (mailbox_.take(channel, events)) {
            return events;
        }
        bool moved = false;
        if (std::unique_lock<std::mutex> lead(step_mutex_, std::try_to_lock); lead) {
            // The others are told after the lock is free: one of them may lead next.
            struct Wake {
                Mailbox & mailbox;
                std::unique_lock<std::mutex> & lead;
                ~Wake() {
                    lead.unlock();
                    mailbox.wake();
                }
            } wake{mailbox_, lead};
            moved = advance();
        }
        if (!moved) {
            mailbox_.wait(seen, CHECK_SECONDS);
        }
        check();
    }
}

Event Engine::wait_to_end(int64_t id, const std::function<void()> & check) {
    Event whole{};
    while (whole.finish == Finish::none) {
        for (Event & event : wait(id, check)) {
            event.tokens.insert(event.tokens.begin(), whole.tokens.begin(), whole.tokens.end());
            event.logprobs.insert(event.logprobs.begin(), whole.logprobs.begin(), whole.logprobs.end());
            whole = std::move(event);
        }
    }
    return whole;
}

std::vector<Event> Engine::step() {
    const std::lock_guard<std::mutex> lock(step_mutex_);
    advance();
    return mailbox_.take_all();
}

bool Engine::advance() {
    const auto start = std::chrono::steady_clock::now();
    const double compute_before = forward_.times().compute;
    take_wishes();
    admit();
    std::vector<Turn> turns = this->turns();
    secure_cells(turns);
    pass(turns);
    const double seconds = seconds_since(start);
    step_seconds_ += seconds;
    return collect(seconds, forward_.times().compute - compute_before) || !turns.empty();
}

void Engine::pass(const std::vector<Turn> & turns) {
    if (turns.empty()) {
        return;
    }
    const PassTimer timer;
    const double build_before = forward_.times().build;
    batch_.clear();
    batch_.set_exact_rows(turns.front().active->decoder->prefilling() ? 0 : exact_rows());
    for (const Turn & turn : turns) {
        turn.active->decoder->plan(batch_, turn.n_rows);
    }
    const bool prefill =
        std::any_of(turns.begin(), turns.end(), [](const Turn & t) { return t.active->decoder->planned_prefill(); });
    const int n_prefill = options_.n_threads_batch > 0 ? options_.n_threads_batch : options_.n_threads;
    forward_.use_threads(prefill ? n_prefill : threads_.choose(batch_.size()));
    const auto start = std::chrono::steady_clock::now();
    forward_.run(batch_);
    const double run_seconds = seconds_since(start) - (forward_.times().build - build_before);
    ++pass_;
    for (const Turn & turn : turns) {
        Active & active = *turn.active;
        try {
            active.decoder->consume(batch_, forward_);
        } catch (const std::exception & e) {
            active.request.finish = Finish::failed;
            active.request.error = e.what();
        }
        active.took_part = true;
        active.last_pass = pass_;
    }
    if (!prefill) {
        const bool trial = threads_.trying(batch_.size());
        threads_.observe(batch_.size(), run_seconds);
        observe_pass(turns, trial ? 0.0 : timer.seconds() - (forward_.times().build - build_before));
    }
    batch_.clear();
}

// What the choice of the draft length needs to know: passes without prompts, and how many share them. `seconds` 0: not
// to be counted.
void Engine::observe_pass(const std::vector<Turn> & turns, double seconds) {
    int n_tokens = 0;
    bool chosen = false;
    for (const Turn & turn : turns) {
        n_tokens += static_cast<int>(turn.active->request.emitted.size());
        chosen = chosen || turn.active->request.options.chooses_cycles();
    }
    draft_length_.observe_pass(batch_.size(), seconds, chosen);
    draft_length_.observe_crowd(static_cast<int>(turns.size()), batch_.size(), n_tokens);
}

// An event for each request that took part or has ended; true if there is any.
bool Engine::collect(double seconds, double compute_seconds) {
    std::vector<Event> events;
    for (auto & [id, active] : requests_) {
        Request & request = active->request;
        if (active->sequence) {
            (active->emitted ? request.stats.generation_seconds : request.stats.prompt_seconds) += seconds;
            request.stats.compute_seconds += active->emitted ? compute_seconds : 0.0;
            active->emitted = request.stats.completion_tokens > 0;
        }
        if (active->reported || (!active->took_part && !active->is_over())) {
            continue;
        }
        active->took_part = false;
        events.push_back({id, std::move(request.emitted), std::move(request.block), std::move(request.confidence),
                          std::move(request.draft), std::move(request.logprobs), request.finish, request.error,
                          request.stats});
        request.emitted.clear();
        request.block.clear();
        request.confidence.clear();
        request.draft.clear();
        request.logprobs.clear();
        if (active->is_over()) {
            end(*active);
            active->reported = true;
        }
    }
    const bool any = !events.empty();
    mailbox_.deliver(std::move(events));
    return any;
}

// Its slot is free, its cells wait for a prompt that begins alike.
void Engine::end(Active & active) {
    queue_.erase(std::remove(queue_.begin(), queue_.end(), &active), queue_.end());
    active.images.clear();
    if (!active.sequence) {
        return;
    }
    const Request & request = active.request;
    const bool keep = request.options.keep && request.finish == Finish::length;
    const int n = keep ? static_cast<int>(request.prompt.size()) : active.sequence->size();
    sequences_.finish(active.sequence, n, keep);
    active.sequence = nullptr;
    active.request.sequence = nullptr;
    running_.erase(std::remove(running_.begin(), running_.end(), &active), running_.end());
}

void Engine::cancel(int64_t id) { mailbox_.cancel(id); }

void Engine::release(int64_t id) {
    mailbox_.forget(id);
    if (const std::unique_lock<std::mutex> lock(step_mutex_, std::try_to_lock); lock) {
        take_wishes();  // or else the step that is under way is followed by one that does
    }
}

void Engine::hold(int64_t id, bool held) { mailbox_.hold(id, held); }

void Engine::close() { mailbox_.close(); }

void Engine::clear_cache() {
    const std::lock_guard<std::mutex> lock(step_mutex_);
    take_wishes();
    sequences_.clear();
}

EngineState Engine::state() {
    const std::lock_guard<std::mutex> lock(step_mutex_);
    take_wishes();
    EngineState state{};
    const Pages & pages = sequences_.pages();
    state.n_cells = pages.size() * PAGE_CELLS;
    state.n_free_cells = pages.n_free() * PAGE_CELLS;
    state.n_idle_cells = sequences_.n_idle() * PAGE_CELLS;
    for (const Active * active : running_) {
        ++(active->is_running() ? state.n_running : state.n_suspended);
    }
    state.n_queued = static_cast<int>(queue_.size());
    state.step_seconds = step_seconds_;
    return state;
}

ForwardTimes Engine::times() {
    const std::lock_guard<std::mutex> lock(step_mutex_);
    return forward_.times();
}

std::vector<float> Engine::logits(const std::vector<llama_token> & tokens, int block_start, bool lora, int first) {
    check_tokens(tokens);
    if (lora && !model_.lora()) {
        throw std::invalid_argument("lora: the model was loaded without a drafter LoRA");
    }
    const int n = static_cast<int>(tokens.size());
    const int n_causal = block_start < 0 ? n : std::min(block_start, n);
    if (first < 0 || first >= n) {
        throw std::invalid_argument("first " + std::to_string(first) + ": must be between 0 and " +
                                    std::to_string(n - 1));
    }
    if (n - n_causal > options_.n_batch) {
        throw std::invalid_argument("the block of " + std::to_string(n - n_causal) + " rows is longer than n_batch (" +
                                    std::to_string(options_.n_batch) + ")");
    }
    const std::lock_guard<std::mutex> lock(step_mutex_);
    take_wishes();
    // One token more than may be shared: begin() leaves the last one out.
    const int n_shared = std::min(first, n_causal);
    const std::vector<llama_token> prompt(tokens.begin(), tokens.begin() + (n_shared > 0 ? n_shared + 1 : 0));
    CachedSequence * const held = sequences_.begin({prompt, n}, /*force=*/running_.empty());
    if (!held) {
        throw std::runtime_error("no free cells for logits(): other requests are running");
    }
    Sequence & sequence = *held;
    std::vector<float> result(size_t(n - first) * model_.n_vocab());
    const auto run = [&](int begin, int end) {
        const std::vector<llama_token> part(tokens.begin() + begin, tokens.begin() + end);
        const Want want = end > first ? Want::logits : Want::nothing;
        const int row = begin < n_causal ? batch_.add_causal(sequence, part, want, want)
                                         : batch_.add_block(sequence, part, want, want, lora);
        forward_.run(batch_);
        for (int i = std::max(begin, first); i < end; ++i) {
            const float * logits = forward_.logits(row + i - begin);
            std::copy(logits, logits + model_.n_vocab(), result.begin() + size_t(i - first) * model_.n_vocab());
        }
        batch_.commit(sequence, row, end - begin);
        batch_.clear();
    };
    for (int begin = sequence.size(); begin < n_causal; begin = sequence.size()) {
        const int whole = std::min(begin + options_.n_batch, n_causal);
        run(begin, begin < first ? std::min(first, whole) : whole);
    }
    if (n_causal < n) {
        run(n_causal, n);
    }
    sequences_.finish(held, first > 0 ? n_causal : 0, /*pinned=*/false);
    return result;
}

}  // namespace trimode
