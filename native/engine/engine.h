// Runs requests over one model and one cache: submit(), then wait() for their events. Any thread may call anything.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cache/image_rows.h"
#include "cache/prefix_cache.h"
#include "decoders/decoder.h"
#include "engine/mailbox.h"
#include "engine/thread_choice.h"

namespace trimode {

struct EngineOptions {
    int n_ctx = 4096;            // cells, shared by all requests: one alone may have them all
    int n_batch = 512;           // rows in a pass
    int n_ubatch = 128;          // of these, rows of prompts while other requests decode
    int n_threads = 0;           // 0: one for each logical processor
    int n_threads_batch = 0;     // of passes with rows of prompts; 0: n_threads
    bool fewer_threads = false;  // one is enough where it is as fast, see ThreadChoice
    int n_parallel = 1;          // requests that run side by side
    int max_queue = -1;          // more that may wait; -1: any number
    std::string type_k = "f16";
    std::string type_v = "f16";
    bool flash_attn = true;
    bool use_scheduler = false;
    bool device_graphs = false;  // these two: see ForwardOptions
    bool fused_stores = true;    // these two: see ForwardOptions
    std::vector<int> row_steps;
    // On a device, whose kernels change with the number of rows: every pass that decodes has so many rows (see Batch),
    // prompts have passes of their own, and of a prompt whole batches are reused or nothing. So a request that is
    // alone gives the same text whatever is drafted. 0: rows as they come. A CPU needs none of it.
    int exact_rows = 0;
    bool images = false;  // prompts may have rows of images
};

// Keys and values of the first tokens of a prompt, as the cache stores them.
struct CachedPrefix {
    std::vector<llama_token> tokens;
    size_t n_layer = 0, k_bytes = 0, v_bytes = 0;
    std::vector<uint8_t> k, v;  // [n_layer, tokens.size(), k_bytes], [n_layer, tokens.size(), v_bytes]
};

struct EngineState {
    int n_cells, n_free_cells, n_idle_cells;  // idle: of finished requests only
    int n_running, n_suspended, n_queued;
    double step_seconds;  // so far, the forward passes included
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

    // engine_images.cpp. Ids for the rows of an image, named by its content, with its vectors [n, n_embd] or, for cells
    // that are in a saved state, without. Throws std::invalid_argument of an engine without `images`.
    ImageHandle add_image(const std::string & key, ImageVectors vectors);
    ImageHandle add_image(const std::string & key, int n);

    // The rows of images among tokens, run by run.
    struct ImageRun {
        int begin, n;  // places in the tokens
        std::string key;
        int first, n_rows;  // of the image's n_rows those from `first` on
    };
    std::vector<ImageRun> image_runs(const std::vector<llama_token> & tokens) const;

    // engine_state.cpp. The longest beginning of `tokens` that a finished request has left; empty where there is none.
    CachedPrefix save_state(const std::vector<llama_token> & tokens);

    // Puts such a beginning into the cache; sizes in bytes. Throws std::invalid_argument for tokens that no prompt
    // could have and for other sizes, std::runtime_error when running requests leave no slot or no room.
    void load_state(const std::vector<llama_token> & tokens, const uint8_t * k, size_t k_size, const uint8_t * v,
                    size_t v_size);

    // [n - first, n_vocab] logits of causal rows; rows from block_start (< 0: none) on see each other in both
    // directions, with the drafter LoRA when asked. Keys and values of causal rows before `first` may come from the
    // cache, where they have the same bits, and stay there; with first 0 nothing is taken and nothing stays.
    std::vector<float> logits(const std::vector<llama_token> & tokens, int block_start, bool lora, int first);

  private:
    struct Active {
        Request request;
        std::vector<ImageHandle> images;  // of the prompt: held until it is over
        std::unique_ptr<Decoder> decoder;
        CachedSequence * sequence = nullptr;  // has a slot
        int64_t last_pass = 0;                // in which it had rows; that of its start
        bool took_part = false;               // in the current pass
        bool emitted = false;                 // has a token
        bool reported = false;                // its last event is out

        bool is_running() const { return sequence && sequence->state == CachedSequence::State::running; }
        bool is_over() const { return request.finish != Finish::none; }
        // Cells for so many rows more.
        int needed(int n_rows) const;
    };
    struct Turn {
        Active * active;
        int n_rows;
    };

    void check_tokens(const std::vector<llama_token> & tokens) const;
    void check_images() const;
    void forget_unused_images();
    void check_options(const RequestOptions & options) const;
    void check_infill(const RequestOptions & options, int n_prompt) const;
    void check_exact(const RequestOptions & options) const;
    int exact_rows() const { return forward_.row_steps().empty() ? 0 : options_.exact_rows; }
    int longest_draft() const;

    // One step; false when there was nothing to do.
    bool advance();
    void take_wishes();
    void admit();
    bool start(Active & active);
    std::vector<Active *> ready();
    std::vector<Turn> turns();
    std::vector<Turn> exact_turns(const std::vector<Active *> & ready) const;
    void secure_cells(std::vector<Turn> & turns);
    bool grow(Active & active, int n);
    void pass(const std::vector<Turn> & turns);
    void observe_pass(const std::vector<Turn> & turns, double seconds);
    bool collect(double seconds, double compute_seconds);
    void end(Active & active);

    const Model & model_;
    EngineOptions options_;
    Mailbox mailbox_;
    std::mutex inbox_mutex_;
    std::vector<std::unique_ptr<Active>> inbox_;
    int64_t next_id_ = 1;

    std::mutex step_mutex_;  // held during a step, with all that follows
    KvCache cache_;
    PrefixCache sequences_;
    ImageRows images_;
    int most_images_ = 1024;  // more are looked through for those that nobody needs
    Forward forward_;
    Batch batch_;
    DraftLength draft_length_;
    ThreadChoice threads_;
    std::map<int64_t, std::unique_ptr<Active>> requests_;
    std::deque<Active *> queue_;     // submitted, without a slot yet
    std::vector<Active *> running_;  // with a slot, the oldest first
    int64_t pass_ = 0;
    double step_seconds_ = 0.0;
};

}  // namespace trimode
