#include "engine.h"

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
      sequences_(cache_, options.exact_reuse),
      forward_(model, cache_,
               {options.n_batch, options.n_threads, options.flash_attn, options.use_scheduler, options.device_graphs}),
      batch_(options.n_batch),
      draft_length_(std::min(options.n_batch, max_draft_length(model))) {}

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

int64_t Engine::submit(std::vector<llama_token> prompt, RequestOptions options, int64_t channel) {
    check_tokens(prompt);
    check_options(options);
    check_infill(options, static_cast<int>(prompt.size()));
    const int room = options_.n_ctx - static_cast<int>(prompt.size());
    options.max_tokens = options.max_tokens < 0 ? room : std::min(options.max_tokens, room);

    auto sampler = std::make_unique<Sampler>(model_, options.sampler, options_.n_ctx);
    auto active = std::make_unique<Active>();
    Request & request = active->request;
    request.stats.prompt_tokens = static_cast<int>(prompt.size());
    request.prompt = std::move(prompt);
    request.options = std::move(options);
    request.draft_length = &draft_length_;
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

// Requests that have come, and those that shall go.
void Engine::take_wishes() {
    {
        const std::lock_guard<std::mutex> lock(inbox_mutex_);
        for (std::unique_ptr<Active> & active : inbox_) {
            queue_.push_back(active.get());
            requests_[active->request.id] = std::move(active);
        }
        inbox_.clear();
    }
    const Mailbox::Wishes wishes = mailbox_.wishes();
    for (const int64_t id : wishes.cancelled) {
        const auto found = requests_.find(id);
        if (found != requests_.end() && !found->second->is_over()) {
            found->second->request.finish = Finish::cancelled;
        }
    }
    for (const int64_t id : wishes.forgotten) {
        const auto found = requests_.find(id);
        if (found != requests_.end()) {
            end(*found->second);
            requests_.erase(found);
        }
    }
}

// Slots and cells: first for requests that had to pause, then for the next in the queue.
void Engine::admit() {
    for (Active * active : running_) {
        if (!active->is_running() && !sequences_.resume(*active->sequence, active->needed(1))) {
            return;
        }
    }
    while (!queue_.empty() && static_cast<int>(running_.size()) < options_.n_parallel) {
        if (!queue_.front()->is_over() && !start(*queue_.front())) {
            return;
        }
        queue_.pop_front();
    }
}

bool Engine::start(Active & active) {
    Request & request = active.request;
    const int n_prompt = static_cast<int>(request.prompt.size());
    const int n_room = std::min(request.max_length(), n_prompt + std::max(request.options.block_length, 1));
    active.sequence = sequences_.begin({request.prompt, options_.n_batch, active.decoder->kernel_length(), n_room},
                                       /*force=*/running_.empty());
    if (!active.sequence) {
        return false;
    }
    request.sequence = active.sequence;
    request.stats.cached_tokens = active.sequence->size();
    active.last_pass = pass_;
    running_.push_back(&active);
    return true;
}

int Engine::Active::needed(int n_rows) const { return std::min(sequence->size() + n_rows, request.max_length()); }

// The running requests that may have rows, those first that have waited longest. One whose reader is far behind waits
// for it, unless nothing else could go on.
std::vector<Engine::Active *> Engine::ready() {
    std::vector<Active *> ready, behind;
    for (Active * active : running_) {
        if (active->is_running() && !active->is_over()) {
            (mailbox_.is_behind(active->request.id) ? behind : ready).push_back(active);
        }
    }
    if (ready.empty() && (!queue_.empty() || behind.size() < running_.size())) {
        ready.swap(behind);
    }
    std::stable_sort(ready.begin(), ready.end(),
                     [](const Active * a, const Active * b) { return a->last_pass < b->last_pass; });
    return ready;
}

// Who has rows in this pass. The first always has, and those that have go to the end of the order: nobody is left out
// of n_parallel passes in a row.
std::vector<Engine::Turn> Engine::turns() {
    const std::vector<Active *> ready = this->ready();
    const bool decoding =
        std::any_of(ready.begin(), ready.end(), [](const Active * a) { return !a->decoder->prefilling(); });
    int room = options_.n_batch;
    int prompt_room = decoding ? std::min(options_.n_ubatch, room) : room;
    std::vector<Turn> turns;
    for (Active * active : ready) {
        int n_rows = active->decoder->next_rows();
        if (active->decoder->prefilling()) {
            n_rows = std::min({n_rows, prompt_room, room});
            prompt_room -= n_rows;
        } else if (n_rows > room) {
            continue;
        }
        if (n_rows > 0) {
            room -= n_rows;
            turns.push_back({active, n_rows});
        }
    }
    return turns;
}

// The oldest first. Where cells are missing, the youngest pause: the oldest always goes on.
void Engine::secure_cells(std::vector<Turn> & turns) {
    for (Active * active : running_) {
        const auto turn =
            std::find_if(turns.begin(), turns.end(), [&](const Turn & turn) { return turn.active == active; });
        if (turn != turns.end() && active->is_running()) {
            grow(*active, active->needed(turn->n_rows));
        }
    }
    const auto paused = [](const Turn & turn) { return !turn.active->is_running(); };
    turns.erase(std::remove_if(turns.begin(), turns.end(), paused), turns.end());
}

bool Engine::grow(Active & active, int n) {
    if (sequences_.grow(*active.sequence, n)) {
        return true;
    }
    for (auto other = running_.rbegin(); *other != &active; ++other) {
        if ((*other)->is_running()) {
            sequences_.suspend(*(*other)->sequence);
            if (sequences_.resume(*active.sequence, n)) {
                return true;
            }
        }
    }
    if (running_.front() == &active) {
        sequences_.unpin();
        return sequences_.resume(*active.sequence, n);
    }
    return false;
}

void Engine::pass(const std::vector<Turn> & turns) {
    if (turns.empty()) {
        return;
    }
    const PassTimer timer;
    const double build_before = forward_.times().build;
    batch_.clear();
    for (const bool tiled : {true, false}) {
        for (const Turn & turn : turns) {
            if (turn.active->decoder->is_tiled() == tiled) {
                turn.active->decoder->plan(batch_, turn.n_rows);
            }
        }
    }
    forward_.run(batch_);
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
    observe_pass(turns, timer.seconds() - (forward_.times().build - build_before));
    batch_.clear();
}

// What the choice of the draft length needs to know: passes without prompts, and how many share them.
void Engine::observe_pass(const std::vector<Turn> & turns, double seconds) {
    int n_tokens = 0;
    for (const Turn & turn : turns) {
        if (turn.active->decoder->planned_prefill()) {
            return;
        }
        n_tokens += static_cast<int>(turn.active->request.emitted.size());
    }
    draft_length_.observe_pass(batch_.size(), seconds);
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
    const std::lock_guard<std::mutex> lock(step_mutex_);
    take_wishes();
    CachedSequence * const held = sequences_.begin({{}, options_.n_batch, 0, n}, /*force=*/running_.empty());
    if (!held) {
        throw std::runtime_error("no free cells for logits(): other requests are running");
    }
    Sequence & sequence = *held;
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
    sequences_.finish(held, 0, /*pinned=*/false);
    return result;
}

}  // namespace trimode
