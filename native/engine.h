// Runs requests over one model and one cache: submit(), then step() until each has finished.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "decoders/decoder.h"

namespace trimode {

struct EngineOptions {
    int n_ctx = 4096;  // tokens per slot
    int n_batch = 512;
    int n_threads = 0;
    int n_parallel = 1;
    std::string type_k = "f16";
    std::string type_v = "f16";
    bool flash_attn = true;
    bool use_scheduler = false;
    bool exact_reuse = false;  // reuse only cells that a prefill from nothing would write bit by bit the same
};

struct Event {
    int64_t request_id;
    std::vector<llama_token> tokens;
    std::vector<llama_token> block;
    std::vector<float> confidence;
    std::vector<PositionLogprobs> logprobs;
    Finish finish;
    std::string error;  // finish failed: why
};

// Keys and values of the first tokens of a prompt, as the cache stores them.
struct CachedPrefix {
    std::vector<llama_token> tokens;
    size_t n_layer = 0, k_bytes = 0, v_bytes = 0;
    std::vector<uint8_t> k, v;  // [n_layer, tokens.size(), k_bytes], [n_layer, tokens.size(), v_bytes]
};

class Engine {
  public:
    // Throws std::invalid_argument for impossible options, std::runtime_error where memory is missing.
    Engine(const Model & model, const EngineOptions & options);

    int n_ctx() const { return options_.n_ctx; }
    size_t kv_cache_bytes() const { return cache_.bytes(); }
    size_t compute_bytes() const { return forward_.compute_bytes(); }
    const DraftLength & draft_length() const { return draft_length_; }

    // Queues a request and returns its id. Throws std::invalid_argument for an empty or too long prompt, a token
    // outside the vocabulary, a mode that needs a mask id the model lacks, or options out of range.
    int64_t submit(std::vector<llama_token> prompt, RequestOptions options);

    // One forward pass for whatever the active requests plan; one event for each request that took part. What goes
    // wrong with one of them (a grammar that allows no token) fails that one alone.
    std::vector<Event> step();

    void cancel(int64_t id);
    Stats stats(int64_t id) const;
    void release(int64_t id);  // forgets a request; cancels it if it still runs
    void clear_cache();        // drops the cells of idle slots

    // engine_state.cpp. The longest beginning of `tokens` that an idle slot holds; empty where none does.
    CachedPrefix save_state(const std::vector<llama_token> & tokens);

    // Puts such a beginning into an idle slot, in the place of what it holds; sizes in bytes. Throws
    // std::invalid_argument for tokens that no prompt could have and for other sizes, std::runtime_error when no slot
    // is idle.
    void load_state(const std::vector<llama_token> & tokens, const uint8_t * k, size_t k_size, const uint8_t * v,
                    size_t v_size);

    // [n, n_vocab] logits of causal rows; rows from block_start (< 0: none) on see each other in both directions,
    // with the drafter LoRA when asked.
    std::vector<float> logits(const std::vector<llama_token> & tokens, int block_start, bool lora);

  private:
    struct Slot {
        Sequence sequence;
        int64_t request = -1;  // -1: idle; its cells wait for a prompt that begins with the same tokens
    };
    struct Active {
        Request request;
        std::unique_ptr<Decoder> decoder;
        bool prefilled = false;  // has emitted
        bool reported = false;   // its last event is out
    };

    void check_tokens(const std::vector<llama_token> & tokens) const;
    void check_options(const RequestOptions & options) const;
    void check_infill(const RequestOptions & options, int n_prompt) const;
    void assign_slots();
    Slot * idle_slot(const std::vector<llama_token> & prompt);
    void free_slot(int64_t id);
    Active & find(int64_t id);
    std::vector<Event> collect(double seconds, double compute_seconds);
    void observe_pass(double seconds);

    const Model & model_;
    EngineOptions options_;
    KvCache cache_;
    Forward forward_;
    Batch batch_;
    DraftLength draft_length_;
    std::vector<Slot> slots_;
    std::map<int64_t, Active> requests_;
    std::deque<int64_t> queue_;  // submitted, without a slot yet
    int64_t next_id_ = 1;
    mutable std::mutex mutex_;
};

}  // namespace trimode
