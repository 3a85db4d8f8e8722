// What passes do for requests, as Python sees it: pytrimode._native.Event, Stats, PositionLogprobs.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "engine/event_queue.h"

namespace nb = nanobind;
using namespace trimode;

namespace {

void bind_logprobs(nb::module_ & m) {
    nb::class_<TokenLogprob>(m, "TokenLogprob", "A token and its log-probability.")
        .def_ro("token", &TokenLogprob::token, "Its id.")
        .def_ro("logprob", &TokenLogprob::logprob, "Natural logarithm of its probability.");
    nb::class_<PositionLogprobs>(m, "PositionLogprobs", "The emitted token and the most likely ones at its position.")
        .def_ro("chosen", &PositionLogprobs::chosen, "The emitted one.")
        .def_ro("top", &PositionLogprobs::top, "The most likely ones, the likeliest first.");
}

void bind_stats(nb::module_ & m) {
    nb::class_<Stats>(m, "Stats", "Counters of one request. Times in seconds.")
        .def_ro("prompt_tokens", &Stats::prompt_tokens, "Tokens of the prompt.")
        .def_ro("cached_tokens", &Stats::cached_tokens, "Prompt tokens found in the cache and not computed again.")
        .def_ro("completion_tokens", &Stats::completion_tokens,
                "Emitted tokens, a final end-of-generation token included.")
        .def_ro("forward_passes", &Stats::forward_passes, "Passes after the prefill (NFE).")
        .def_ro("fused_passes", &Stats::fused_passes, "Of these, those that verified and drafted at once.")
        .def_ro("drafted", &Stats::drafted, "Self-spec: tokens that were drafted.")
        .def_ro("accepted", &Stats::accepted, "Self-spec: of these, those that were accepted.")
        .def_ro("ngram_drafted", &Stats::ngram_drafted, "Of `drafted`, those that were read off the text.")
        .def_ro("ngram_accepted", &Stats::ngram_accepted, "Of these, those that were accepted.")
        .def_ro("tree_drafted", &Stats::tree_drafted, "Of `drafted`, those beside the chain.")
        .def_ro("tree_accepted", &Stats::tree_accepted, "Of these, those that were accepted.")
        .def_ro("cycles", &Stats::cycles, "Self-spec: draft/verify cycles; diffusion: blocks.")
        .def_ro("simulated_acceptance", &Stats::simulated_acceptance,
                "Drafts were accepted by lot: the text is meaningless.")
        .def_ro("loop_period", &Stats::loop_period, "Finish reason \"loop\": the shortest period in tokens; else 0.")
        .def_ro("loop_repeated", &Stats::loop_repeated,
                "Finish reason \"loop\": how many tokens at the end only repeat what came before.")
        .def_ro("prompt_seconds", &Stats::prompt_seconds, "Until the first token.")
        .def_ro("generation_seconds", &Stats::generation_seconds, "From the first token on.")
        .def_ro("compute_seconds", &Stats::compute_seconds,
                "Of `generation_seconds`, what went into the graphs: the rest is the engine's overhead.");
}

}  // namespace

void bind_events(nb::module_ & m) {
    bind_logprobs(m);
    bind_stats(m);
    nb::class_<Event>(m, "Event", "What one engine step did for one request.")
        .def_ro("request_id", &Event::request_id, "As `Engine.submit` returned it.")
        .def_ro("tokens", &Event::tokens, "Tokens emitted by this step, in order; final.")
        .def_ro("block", &Event::block,
                "Mode diffusion: the block being denoised, mask ids where nothing is committed yet; else empty.")
        .def_ro("confidence", &Event::confidence,
                "Probability of each committed token of `block`, 0 where masked, 1 for the seed.")
        .def_ro("draft", &Event::draft,
                "Mode self-spec: what a draft pass proposed, to be verified by the next pass; else empty.")
        .def_ro("logprobs", &Event::logprobs, "Of each of `tokens`, if the request wants them; else empty.")
        .def_ro("error", &Event::error, "Finish reason \"failed\": why.")
        .def_ro("stats", &Event::stats, "So far.")
        .def_prop_ro(
            "finish_reason", [](const Event & event) { return name_of(event.finish); },
            "\"\" while running, else \"stop\", \"length\", \"loop\", \"cancelled\" or \"failed\".");
}
