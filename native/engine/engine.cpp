#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <thread>
#include <utility>

namespace trimode {

namespace {

constexpr int DEFAULT_MAX_DRAFT = 32;   // where the file does not tell
constexpr int MAX_LOOKUP = 64;          // rows of a verification of drafts that were read off the text
constexpr double CHECK_SECONDS = 0.05;  // a thread that waits for another to step looks up so often

// A draft longer than the blocks that the model was trained on is not worth trying.
int max_draft_length(const Model & model) {
    const auto metadata = model.metadata();
    const auto found = metadata.find("trimode.block_length");
    const int trained = found == metadata.end() ? 0 : std::atoi(found->second.c_str());
    return trained > 0 ? trained : DEFAULT_MAX_DRAFT;
}

std::vector<llama_token> ends_of(const Model & model, const RequestOptions & options) {
    std::vector<llama_token> ends;
    for (llama_token token = 0; token < model.n_vocab(); ++token) {
        if (options.is_end(model, token)) {
            ends.push_back(token);
        }
    }
    return ends;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What the last pass did for a request, which is ready for the next one then.
Event take_event(Request & request) {
    return {request.id,
            std::exchange(request.emitted, {}),
            std::exchange(request.block, {}),
            std::exchange(request.confidence, {}),
            std::exchange(request.draft, {}),
            std::exchange(request.logprobs, {}),
            request.finish,
            request.error,
            request.stats};
}

}  // namespace

Engine::Engine(const Model & model, const EngineOptions & options)
    : model_(model),
      options_(checked(model, options)),
      cache_(model, static_cast<int>(GGML_PAD(options.n_ctx, CELL_BUCKET)),
             parse_cache_type(options.type_k, "type_k", options.flash_attn, model.hparams().head_dim),
             parse_cache_type(options.type_v, "type_v", options.flash_attn, model.hparams().head_dim)),
      prefixes_(cache_),
      images_(model, options.images, prefixes_, step_mutex_),
      forward_(model, cache_,
               {options.n_batch, options.n_threads, options.flash_attn, options.use_scheduler, options.device_graphs,
                options.fused_stores, options.row_steps, options.images ? &images_.rows() : nullptr}),
      draft_length_(longest_draft(), Acceptance::published(),
                    exact_rows() > 0 ? std::vector<int>{exact_rows()} : forward_.row_steps(), most_rows(MAX_LOOKUP)),
      validator_(model, options_, exact_rows(), images_.rows()),
      scheduler_(options_, exact_rows(), prefixes_, events_),
      runner_(options_, exact_rows(), forward_, draft_length_) {
    if (exact_rows() > 0) {
        prefixes_.set_whole_batches(options.n_batch);
    }
}

int Engine::longest_draft() const { return most_rows(max_draft_length(model_)); }

// No more than a pass has, and in exact passes no more than these have.
int Engine::most_rows(int wanted) const {
    const int rows = std::min(options_.n_batch, wanted);
    return exact_rows() > 0 ? std::min(rows, exact_rows()) : rows;
}

int64_t Engine::submit(std::vector<llama_token> prompt, RequestOptions options, int64_t channel,
                       std::vector<ImageHandle> images) {
    validator_.check(prompt, options);
    validator_.settle(options.lora_scales);
    std::unique_ptr<ActiveRequest> active = make_active(std::move(prompt), std::move(options));
    active->images = std::move(images);

    const std::lock_guard<std::mutex> lock(arrivals_mutex_);
    const int64_t id = next_id_++;
    const int limit =
        options_.max_queue < 0 ? std::numeric_limits<int>::max() : options_.n_parallel + options_.max_queue;
    events_.open(id, channel == 0 ? id : channel, limit);
    active->request.id = id;
    arrivals_.push_back(std::move(active));
    return id;
}

std::unique_ptr<ActiveRequest> Engine::make_active(std::vector<llama_token> prompt, RequestOptions options) {
    if (exact_rows() > 0 && options.fusing == Fusing::measured) {
        options.fusing = Fusing::never;  // their passes have twice as many rows as others
    }
    if (options.tree_nodes < 0 && !forward_.row_steps().empty()) {
        options.tree_nodes = 0;  // on a device their price is not known; and it adds up in another order there
    }
    const int room = options_.n_ctx - static_cast<int>(prompt.size());
    options.max_tokens = options.max_tokens < 0 ? room : std::min(options.max_tokens, room);

    if (options.sampler.min_tokens > 0) {
        options.sampler.ends = ends_of(model_, options);
    }
    auto sampler = std::make_unique<Sampler>(model_, options.sampler, options_.n_ctx);
    auto active = std::make_unique<ActiveRequest>();
    Request & request = active->request;
    request.stats.prompt_tokens = static_cast<int>(prompt.size());
    request.prompt = std::move(prompt);
    request.options = std::move(options);
    request.draft_length = &draft_length_;
    request.stats.simulated_acceptance = bool(request.options.simulated);
    any_simulated_ = any_simulated_ || request.stats.simulated_acceptance;
    active->decoder = make_decoder(model_, request, std::move(sampler), options_.n_batch);
    if (request.options.max_tokens == 0) {
        request.finish = Finish::length;
    }
    return active;
}

std::vector<Event> Engine::wait(int64_t channel, const std::function<void()> & check) {
    std::vector<Event> events;
    while (true) {
        const uint64_t seen = events_.changes();
        if (events_.take(channel, events)) {
            return events;
        }
        bool moved = false;
        while (n_waiting_ > 0) {
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
        if (std::unique_lock<std::mutex> lead(step_mutex_, std::try_to_lock); lead) {
            // The others wake after the lock is free: one of them may lead next.
            struct Wake {
                EventQueue & events;
                std::unique_lock<std::mutex> & lead;
                ~Wake() {
                    lead.unlock();
                    events.wake();
                }
            } wake{events_, lead};
            moved = advance();
        }
        if (!moved) {
            events_.wait(seen, CHECK_SECONDS);
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

Engine::BetweenSteps::BetweenSteps(Engine & engine) : engine_(engine) {
    ++engine_.n_waiting_;
    engine_.step_mutex_.lock();
    --engine_.n_waiting_;
}

Engine::BetweenSteps::~BetweenSteps() {
    engine_.step_mutex_.unlock();
    engine_.events_.wake();
}

std::vector<Event> Engine::step() {
    const BetweenSteps between(*this);
    advance();
    return events_.take_all();
}

// One step; false when there was nothing to do.
bool Engine::advance() {
    const auto start = std::chrono::steady_clock::now();
    const double compute_before = forward_.times().compute;
    take_submissions();
    const Schedule schedule = scheduler_.schedule();
    runner_.run(schedule);
    const bool any_event = collect(seconds_since(start), forward_.times().compute - compute_before);
    return any_event || !schedule.empty();
}

// Requests that have come since the last step, and those that were cancelled or released. These are asked for first, so
// that all of them have come.
void Engine::take_submissions() {
    const Cancellations ended = events_.take_cancellations();
    {
        const std::lock_guard<std::mutex> lock(arrivals_mutex_);
        for (std::unique_ptr<ActiveRequest> & active : arrivals_) {
            scheduler_.enqueue(std::move(active));
        }
        arrivals_.clear();
    }
    for (const int64_t id : ended.cancelled) {
        scheduler_.cancel(id);
    }
    for (const int64_t id : ended.released) {
        scheduler_.release(id);
    }
}

// An event for each request that took part or has ended; true if there is any. `seconds`: of this step, of which the
// graphs took `compute_seconds`.
bool Engine::collect(double seconds, double compute_seconds) {
    step_seconds_ += seconds;
    std::vector<Event> events;
    for (const auto & [id, active] : scheduler_.requests()) {
        Stats & stats = active->request.stats;
        if (active->sequence) {
            (active->has_token ? stats.generation_seconds : stats.prompt_seconds) += seconds;
            stats.compute_seconds += active->has_token ? compute_seconds : 0.0;
            active->has_token = stats.completion_tokens > 0;
        }
        if (active->reported || (!active->took_part && !active->is_over())) {
            continue;
        }
        active->took_part = false;
        events.push_back(take_event(active->request));
        if (active->is_over()) {
            scheduler_.retire(*active);
            active->reported = true;
        }
    }
    const bool any = !events.empty();
    events_.push(std::move(events));
    return any;
}

std::optional<Learned> Engine::learned(double patience) {
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock<std::mutex> lock(step_mutex_, std::try_to_lock);
    while (!lock && seconds_since(start) < patience) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        lock.try_lock();
    }
    if (!lock || any_simulated_ || !draft_length_.observed()) {
        return {};
    }
    return draft_length_.learned();
}

void Engine::cancel(int64_t id) { events_.cancel(id); }

void Engine::release(int64_t id) {
    events_.release(id);
    if (const std::unique_lock<std::mutex> lock(step_mutex_, std::try_to_lock); lock) {
        take_submissions();  // or else the step that is under way is followed by one that does
    }
}

void Engine::hold(int64_t id, bool held) { events_.hold(id, held); }

void Engine::close() { events_.close(); }

void Engine::clear_cache() {
    const BetweenSteps between(*this);
    take_submissions();
    prefixes_.clear();
}

EngineState Engine::state() {
    const BetweenSteps between(*this);
    take_submissions();
    const Pages & pages = prefixes_.pages();
    return {pages.size() * PAGE_CELLS,
            pages.n_free() * PAGE_CELLS,
            prefixes_.n_idle() * PAGE_CELLS,
            scheduler_.n_running(),
            scheduler_.n_suspended(),
            scheduler_.n_queued(),
            step_seconds_};
}

ForwardTimes Engine::times() {
    const BetweenSteps between(*this);
    return forward_.times();
}

SavedPrefix Engine::save_state(const std::vector<llama_token> & tokens, std::vector<float> lora_scales) {
    validator_.settle(lora_scales);
    const BetweenSteps between(*this);
    take_submissions();
    return save_prefix(prefixes_, cache_, tokens, lora_scales);
}

void Engine::load_state(const std::vector<llama_token> & tokens, Bytes k, Bytes v, std::vector<float> lora_scales) {
    validator_.settle(lora_scales);
    const BetweenSteps between(*this);
    take_submissions();
    validator_.check_tokens(tokens);
    check_prefix_bytes(cache_, tokens.size(), k, v);
    if (!scheduler_.has_free_slot() || !load_prefix(prefixes_, cache_, tokens, k, v, lora_scales)) {
        throw CacheFull("no idle slot to load a state into: requests are running");
    }
}

std::vector<float> Engine::logits(LogitsQuery query) {
    validator_.check(query);
    validator_.settle(query.lora_scales);
    const BetweenSteps between(*this);
    take_submissions();
    CachedSequence * const sequence =
        prefixes_.acquire(query.reusable_prompt(), query.size(), /*force=*/scheduler_.n_slots_taken() == 0,
                          query.lora_scales, query.cache_scope);
    if (!sequence) {
        throw CacheFull("the cache has no room for logits: other requests are running; try again later");
    }
    std::vector<float> result = compute_logits(query, *sequence, forward_, model_.n_vocab(), options_.n_batch);
    prefixes_.finish(sequence, query.first > 0 ? query.n_causal() : 0, /*pinned=*/false);
    return result;
}

Scores Engine::score(ScoreQuery query, const std::function<void()> & check) {
    validator_.check(query);
    validator_.settle(query.lora_scales);
    ScoreRun run(query, model_.n_vocab(), model_.mask_token(), options_.n_batch);
    while (!run.done()) {
        {
            const BetweenSteps between(*this);
            take_submissions();
            const bool alone = scheduler_.n_slots_taken() == 0;
            // Of exact passes whole batches alone are found again.
            const int prompt_rows = exact_rows() > 0
                                        ? options_.n_ctx
                                        : (alone ? options_.n_batch : std::min(options_.n_ubatch, options_.n_batch));
            if (!run.step(prefixes_, forward_, /*force=*/alone, prompt_rows)) {
                throw CacheFull("the cache has no room to score: other requests are running; try again later");
            }
            if (!run.done()) {
                advance();  // or else those that wait to step would find this waiting again
            }
        }
        check();
    }
    return run.take();
}

}  // namespace trimode
