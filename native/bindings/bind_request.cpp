// Python binding of what a request may ask for: pytrimode._native.RequestOptions.
#include "bindings/option_fields.h"
#include "decoders/request.h"

using namespace trimode;

namespace {

using Bias = std::unordered_map<llama_token, float>;

#define FIELD(path) [](auto & o) -> auto & { return o.path; }

Bias bias_of(const RequestOptions & o) {
    Bias bias;
    for (const llama_logit_bias & b : o.sampler.logit_bias) {
        bias[b.token] = b.bias;
    }
    return bias;
}

void set_bias(RequestOptions & o, const Bias & bias) {
    o.sampler.logit_bias.clear();
    for (const auto & [token, value] : bias) {
        o.sampler.logit_bias.push_back({token, value});
    }
}

void add_decoding(OptionFields<RequestOptions> & fields) {
    fields
        .add<std::string>(
            "mode", "\"ar\", \"diffusion\" or \"self-spec\".",
            [](const RequestOptions & o) { return std::string(name_of(o.mode)); },
            [](RequestOptions & o, const std::string & name) { o.mode = parse_mode(name); })
        .add("max_tokens", "Most tokens to emit; -1: as many as the context has room for.", FIELD(max_tokens))
        .add("block_length", "Tokens per block; 0: self-spec chooses it by measurement, cycle by cycle.",
             FIELD(block_length))
        .add<std::string>(
            "fusing", "Self-spec: whether drafts ride with verifications, \"never\", \"always\" or \"measured\".",
            [](const RequestOptions & o) { return std::string(name_of(o.fusing)); },
            [](RequestOptions & o, const std::string & name) { o.fusing = parse_fusing(name); })
        .add("ngram", "Self-spec: most tokens of a draft that is read off the text; 0: none, -1: where that is faster.",
             FIELD(ngram))
        .add("tree_nodes",
             "Self-spec, greedy: most drafts beside the chain; 0: none, -1: as much of a tree as is worth its rows.",
             FIELD(tree_nodes))
        .add("threshold", "Diffusion: confidence from which a token is kept at once.", FIELD(threshold))
        .add("steps", "Diffusion: passes for each block, instead of the threshold; 0: by threshold.", FIELD(steps))
        .add<std::string>(
            "reveal", "Diffusion: order in which tokens are kept, \"confidence\", \"leftmost\" or \"margin\".",
            [](const RequestOptions & o) { return std::string(name_of(o.reveal)); },
            [](RequestOptions & o, const std::string & name) { o.reveal = parse_reveal(name); })
        .add("use_lora", "Draft with the drafter LoRA, if one is loaded.", FIELD(use_lora))
        .add("lora_scales", "Of the model's LoRA adapters, by their numbers; those that are not there: 0.",
             FIELD(lora_scales))
        .add("suffix", "Diffusion: tokens behind the middle that is wanted; empty: none.", FIELD(suffix));
}

void add_ends(OptionFields<RequestOptions> & fields) {
    fields.add("ignore_eos", "Go on after an end-of-generation token.", FIELD(ignore_eos))
        .add("stop", "Texts before which the answer ends.", FIELD(stop))
        .add("stop_token_ids", "Tokens that end the answer as an end-of-generation token does.", FIELD(stop_token_ids))
        .add("min_tokens", "Tokens before which nothing ends the answer but max_tokens.", FIELD(sampler.min_tokens))
        .add("loop_window", "An output of which the last N tokens only repeat ends; 0: it goes on.", FIELD(loop_window))
        .add("loop_min_repeats", "How often a period must have come before that counts.", FIELD(loop_min_repeats))
        .add("think_begin", "The special token before reasoning; -1: none.", FIELD(think_begin))
        .add("think_end", "The special token behind reasoning; -1: none.", FIELD(think_end))
        .add("max_thinking_tokens", "Tokens of reasoning after which its end token is emitted; -1: no budget.",
             FIELD(max_thinking_tokens))
        .add("keep", "The prompt stays in the cache for prompts that begin with it.", FIELD(keep))
        .add("cache_scope", "Only requests of the same one share what the cache holds.", FIELD(cache_scope));
}

void add_logprobs(OptionFields<RequestOptions> & fields) {
    fields
        .add("logprobs", "How many of the most likely tokens to report at each position; -1: nothing.", FIELD(logprobs))
        .add("post_sampling_probs", "Log-probabilities after the sampler chain, not of the raw logits.",
             FIELD(post_sampling_probs));
}

void add_sampling(OptionFields<RequestOptions> & fields) {
    fields.add("temperature", "0: greedy, without a random draw.", FIELD(sampler.temperature))
        .add("top_k", "Keep the N likeliest; 0: all.", FIELD(sampler.top_k))
        .add("top_p", "Keep the likeliest that together have this probability; 1: all.", FIELD(sampler.top_p))
        .add("min_p", "Keep those with at least this share of the probability of the likeliest; 0: all.",
             FIELD(sampler.min_p))
        .add("typical_p", "Keep the most typical that together have this probability; 1: all.",
             FIELD(sampler.typical_p))
        .add("repeat_penalty", "Divides the logits of recent tokens; 1: off.", FIELD(sampler.repeat_penalty))
        .add("frequency_penalty", "Taken off a token's logit for each recent occurrence.",
             FIELD(sampler.frequency_penalty))
        .add("presence_penalty", "Taken off the logits of recent tokens.", FIELD(sampler.presence_penalty))
        .add("penalty_last_n", "Emitted tokens that penalties look back at.", FIELD(sampler.penalty_last_n))
        .add("dry_multiplier", "DRY: strength of the penalty for repetitions; 0: off.", FIELD(sampler.dry_multiplier))
        .add("dry_base", "DRY: what each further token of a repetition multiplies it by.", FIELD(sampler.dry_base))
        .add("dry_allowed_length", "DRY: longest repetition without a penalty.", FIELD(sampler.dry_allowed_length))
        .add("dry_penalty_last_n", "DRY: tokens to look back at; -1: the context.", FIELD(sampler.dry_penalty_last_n))
        .add("dry_sequence_breakers", "DRY: texts at which a repetition ends.", FIELD(sampler.dry_sequence_breakers))
        .add<Bias>("logit_bias", "What to add to the logits of tokens.", bias_of, set_bias)
        .add("grammar", "In llguidance's Lark syntax; empty: none.", FIELD(sampler.grammar))
        .add("grammar_after", "The token behind which the grammar begins; -1: at once.", FIELD(sampler.grammar_after))
        .add("seed", "Of the random numbers.", FIELD(sampler.seed))
        .add("coupled", "Target and draft take the Gumbel-max token under the same noise, instead of rejection.",
             FIELD(sampler.coupled));
}

void add_simulation(OptionFields<RequestOptions> & fields) {
    fields
        .add("simulated_acceptance",
             "For benchmarks: the rates, by position, at which drafts are accepted by lot. The text is meaningless; no "
             "option of `TriMode` leads here. Empty: drafts are compared with the target.",
             FIELD(simulated.rates))
        .add("simulated_after_rejection",
             "For benchmarks: how often the first mask behind a rejected draft predicts the next token.",
             FIELD(simulated.after_rejection))
        .add("simulated_centres",
             "For benchmarks: the log-odds, by position, around which the chances of drafts vary; empty: all alike.",
             FIELD(simulated.centres))
        .add("simulated_spread", "For benchmarks: the standard deviation of these log-odds.", FIELD(simulated.spread))
        .add("simulated_second", "For benchmarks: how often the second-best token is right where the best one is not.",
             FIELD(simulated.second))
        .add("simulated_strayed", "For benchmarks: log-odds that a draft loses behind a second-best token.",
             FIELD(simulated.strayed));
}

}  // namespace

void bind_request(nb::module_ & m) {
    OptionFields<RequestOptions> fields(m, "RequestOptions",
                                        "What a request asks of the engine.\n\n"
                                        "Raises TypeError for a name that is none and for a value of a wrong type, "
                                        "ValueError for a mode, fusing or order that is not known. "
                                        "`Engine.submit` checks ranges.");
    add_decoding(fields);
    add_ends(fields);
    add_logprobs(fields);
    add_sampling(fields);
    add_simulation(fields);
    fields.finish();
}
