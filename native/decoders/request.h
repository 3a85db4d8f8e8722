// A request: what was asked, how far it has come, and what it has cost.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cache/sequence.h"
#include "decoders/loop_detector.h"
#include "sampling/logprobs.h"
#include "sampling/sampler.h"
#include "speculation/draft_length.h"
#include "speculation/simulated.h"

namespace trimode {

enum class Mode { ar, diffusion, self_spec };

// What block diffusion commits: the most confident positions first (the reference), from left to right, or the first
// masked position and those whose token leads the next best one most.
enum class Reveal { confidence, leftmost, margin };

// By name ("ar", "diffusion", "self-spec"; "confidence", "leftmost", "margin"); std::invalid_argument for anything
// else.
Mode parse_mode(const std::string & name);
Reveal parse_reveal(const std::string & name);
const char * name_of(Mode mode);
const char * name_of(Reveal reveal);

struct RequestOptions {
    Mode mode = Mode::self_spec;
    int max_tokens = 0;
    int block_length = 16;          // 0: self-spec chooses it by measurement, cycle by cycle
    Fusing fusing = Fusing::never;  // self-spec: whether drafts ride with verifications
    float threshold = 0.9f;
    int steps = 0;  // diffusion: denoising passes per block, instead of the threshold; 0: by threshold
    Reveal reveal = Reveal::confidence;
    int ngram = 0;       // self-spec: drafts read off the request's own text, at most so many; -1: where that is faster
    int tree_nodes = 0;  // self-spec, greedy: drafts beside the chain, at most so many; -1: a tree by what rows cost
    bool ignore_eos = false;
    bool use_lora = true;
    std::vector<float> lora_scales;   // of the model's adapters; those that are not there: 0
    std::vector<llama_token> suffix;  // diffusion: the text behind the middle that is wanted (infill); empty: none
    std::vector<std::string> stop;
    std::vector<llama_token> stop_token_ids;  // they end the request as an end-of-generation token does
    int loop_window = LoopDetector::WINDOW;   // 0: loops do not end a request
    int loop_min_repeats = LoopDetector::MIN_REPEATS;
    llama_token think_begin = -1;  // the special tokens around reasoning
    llama_token think_end = -1;
    int max_thinking_tokens = -1;      // < 0: no budget
    int logprobs = -1;                 // how many of the most likely tokens to report at each position; < 0: nothing
    bool keep = false;                 // the prompt stays in the cache for prompts that begin with it
    uint64_t cache_scope = 0;          // only requests of the same one share what the cache holds
    bool post_sampling_probs = false;  // logprobs after the sampler chain, not of the raw logits
    SamplerOptions sampler;
    SimulatedAcceptance simulated;  // self-spec, greedy: for benchmarks

    bool is_end(const Model & model, llama_token token) const {
        return (!ignore_eos && model.is_eog(token)) ||
               std::find(stop_token_ids.begin(), stop_token_ids.end(), token) != stop_token_ids.end();
    }

    // Whether cycles of self-speculation are chosen by measurement.
    bool chooses_cycles() const { return mode == Mode::self_spec && (block_length == 0 || fusing == Fusing::measured); }

    // Whether verifications have drafts beside the chain: second-best tokens, where no sampler weighs them.
    bool has_trees() const { return mode == Mode::self_spec && tree_nodes != 0 && sampler.plain_argmax(); }

    // Whether drafts may be read off the text. Where they are accepted by lot, there is no text.
    bool looks_up() const { return mode == Mode::self_spec && ngram != 0 && !simulated; }
};

struct Stats {
    int prompt_tokens = 0;
    int cached_tokens = 0;      // of the prompt, found in the cache
    int completion_tokens = 0;  // emitted, a final end-of-generation token included
    int forward_passes = 0;     // after the prefill (NFE)
    int fused_passes = 0;       // of these, those that verified and drafted at once
    int drafted = 0;
    int accepted = 0;
    int ngram_drafted = 0;  // of `drafted`, read off the text
    int ngram_accepted = 0;
    int tree_drafted = 0;  // of `drafted`, beside the chain
    int tree_accepted = 0;
    int cycles = 0;                     // self-spec: draft and verify; diffusion: blocks
    bool simulated_acceptance = false;  // the text is meaningless
    int loop_period = 0;                // finish loop: the shortest period, in tokens
    int loop_repeated = 0;              // finish loop: how many tokens at the end only repeat
    double prompt_seconds = 0.0;
    double generation_seconds = 0.0;
    double compute_seconds = 0.0;  // of these, in the graphs
};

enum class Finish { none, stop, length, loop, cancelled, failed };
const char * name_of(Finish finish);  // none: ""

struct Request {
    int64_t id = 0;
    std::vector<llama_token> prompt;
    RequestOptions options;
    Sequence * sequence = nullptr;         // while it has a slot
    DraftLength * draft_length = nullptr;  // of the engine
    Stats stats;
    Finish finish = Finish::none;
    std::string error;  // finish failed: why

    // Filled during a step, read and cleared by the engine.
    std::vector<llama_token> emitted;
    std::vector<llama_token> block;          // diffusion: the block as it stands
    std::vector<float> confidence;           // of each of its tokens; 0 where masked
    std::vector<llama_token> draft;          // self-spec: what is proposed for the next verification
    std::vector<PositionLogprobs> logprobs;  // of each emitted token, if asked

    // Tokens that its sequence may have at most, those of rows that vanish included.
    int max_length() const { return static_cast<int>(prompt.size() + options.suffix.size()) + options.max_tokens; }
    int remaining() const { return options.max_tokens - stats.completion_tokens; }
};

}  // namespace trimode
