// Runs requests over one model and one cache: submit(), then wait() for their events. Any thread may call anything.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <vector>

#include "cache/saved_prefix.h"
#include "engine/engine_options.h"
#include "engine/event_queue.h"
#include "engine/image_registry.h"
#include "engine/logits_query.h"
#include "engine/model_runner.h"
#include "engine/request_validator.h"
#include "engine/scheduler.h"
#include "engine/score_query.h"

namespace trimode {

struct EngineState {
    int n_cells, n_free_cells, n_idle_cells;  // idle: of finished requests only
    int n_running, n_suspended, n_queued;
    double step_seconds;  // so far, the forward passes included
};

// The cells that are asked for are those of running requests.
struct CacheFull : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Engine {
  public:
    // Throws std::invalid_argument for impossible options, std::runtime_error where memory is missing.
    Engine(const Model & model, const EngineOptions & options);

    int n_ctx() const { return options_.n_ctx; }
    int n_parallel() const { return options_.n_parallel; }
    size_t kv_cache_bytes() const { return cache_.bytes(); }
    size_t compute_bytes() const { return forward_.compute_bytes(); }
    const Forward & forward() const { return forward_; }
    DraftLength & draft_length() { return draft_length_; }  // for use while no request runs

    // What the choice of drafts has learned from passes of this engine and from what it began with. Nothing where there
    // were no passes, where drafts of a request were accepted by lot, and while a pass does not end in `patience`
    // seconds.
    std::optional<Learned> learned(double patience);
    ImageRegistry & images() { return images_; }

    // Queues a request and returns its id, at once. Its events go to `channel`; 0: to one of its own, of number id.
    // Throws std::invalid_argument for an empty or too long prompt, a token outside the vocabulary, a mode that needs a
    // mask id the model lacks, or options out of range; QueueFull when n_parallel run and max_queue wait.
    // `images` holds the vectors of the rows of images in the prompt.
    int64_t submit(std::vector<llama_token> prompt, RequestOptions options, int64_t channel = 0,
                   std::vector<ImageHandle> images = {});

    // The next events of a channel, at least one; none when all of its requests have ended. While there are none the
    // caller steps the engine, for everybody, or waits for the thread that does. `check` is called between passes; what
    // it throws ends the wait, not the requests. Throws std::runtime_error after close().
    std::vector<Event> wait(int64_t channel, const std::function<void()> & check);

    // All of a request's events as one: its tokens, why and how it ended.
    Event wait_to_end(int64_t id, const std::function<void()> & check);

    // One forward pass for whatever the active requests plan, and all events that wait. What goes wrong with one of
    // them (a grammar that allows no token) fails that one alone.
    std::vector<Event> step();

    void cancel(int64_t id);           // it ends with the current pass, with an event
    void release(int64_t id);          // forgets a request; one that still runs ends without a word
    void hold(int64_t id, bool held);  // its reader is behind: it pauses unless nothing else could go on
    void close();                      // wait() and submit() throw from now on
    void clear_cache();                // drops the cells of finished requests

    EngineState state();
    ForwardTimes times();

    // The longest beginning of `tokens` that a finished request has left, with these scales of the model's adapters;
    // empty where there is none.
    SavedPrefix save_state(const std::vector<llama_token> & tokens, std::vector<float> lora_scales);

    // Puts such a beginning into the cache. Throws std::invalid_argument for tokens that no prompt could have and for
    // arrays of other sizes, CacheFull when running requests leave no slot or no room.
    void load_state(const std::vector<llama_token> & tokens, Bytes k, Bytes v, std::vector<float> lora_scales);

    // [query.size() - query.first, n_vocab]. Throws CacheFull when running requests leave no room.
    std::vector<float> logits(LogitsQuery query);

    // In parts; other requests take part in a pass behind each. `check` is called between the parts, and what it throws
    // ends this. Throws std::invalid_argument for what no prompt could have, CacheFull when running requests leave no
    // room.
    Scores score(ScoreQuery query, const std::function<void()> & check);

  private:
    int exact_rows() const { return forward_.row_steps().empty() ? 0 : options_.exact_rows; }
    int longest_draft() const;
    int most_rows(int wanted) const;
    std::unique_ptr<ActiveRequest> make_active(std::vector<llama_token> prompt, RequestOptions options);

    // Between two steps: the thread that steps lets those that wait for this go first.
    class BetweenSteps {
      public:
        explicit BetweenSteps(Engine & engine);
        ~BetweenSteps();

      private:
        Engine & engine_;
    };

    bool advance();
    void take_submissions();
    bool collect(double seconds, double compute_seconds);

    const Model & model_;
    EngineOptions options_;
    EventQueue events_;
    std::mutex arrivals_mutex_;
    std::vector<std::unique_ptr<ActiveRequest>> arrivals_;  // since the last step
    int64_t next_id_ = 1;

    std::atomic<int> n_waiting_{0};  // threads that want the next one
    std::mutex step_mutex_;          // held during a step, with all that follows
    KvCache cache_;
    PrefixCache prefixes_;
    ImageRegistry images_;
    Forward forward_;
    DraftLength draft_length_;
    RequestValidator validator_;
    Scheduler scheduler_;
    ModelRunner runner_;
    double step_seconds_ = 0.0;
    std::atomic<bool> any_simulated_{false};
};

}  // namespace trimode
