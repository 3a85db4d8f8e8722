// pytrimode._native: the engine as Python sees it. Documented in pytrimode/_native.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include "engine.h"
#include "log.h"
#include "loop_detector.h"
#include "lora.h"
#include "model.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

void bind_activations(nb::module_ & m);
void bind_encode(nb::module_ & m);
void bind_quantize(nb::module_ & m);
void bind_state(nb::module_ & m);

namespace {

const char * finish_name(Finish finish) {
    switch (finish) {
        case Finish::none:
            return "";
        case Finish::stop:
            return "stop";
        case Finish::length:
            return "length";
        case Finish::loop:
            return "loop";
        case Finish::cancelled:
            return "cancelled";
        case Finish::failed:
            return "failed";
    }
    return "";
}

void bind_model(nb::module_ & m) {
    nb::class_<Model>(m, "Model")
        .def(
            "__init__",
            [](Model * self, const std::string & path, const std::optional<std::string> & lora_path, int n_gpu_layers,
               bool use_mmap, bool vocab_only) {
                const nb::gil_scoped_release release;
                new (self) Model(path, {lora_path.value_or(""), n_gpu_layers, use_mmap, vocab_only});
            },
            "path"_a, nb::kw_only(), "lora_path"_a = nb::none(), "n_gpu_layers"_a = 0, "use_mmap"_a = true,
            "vocab_only"_a = false)
        .def_prop_ro("metadata", &Model::metadata)
        .def_prop_ro("description", &Model::description)
        .def_prop_ro("n_params", [](const Model & model) { return llama_model_n_params(model.raw()); })
        .def_prop_ro("size_bytes", [](const Model & model) { return llama_model_size(model.raw()); })
        .def_prop_ro("n_vocab", &Model::n_vocab)
        .def_prop_ro("n_ctx_train", [](const Model & model) { return model.hparams().n_ctx_train; })
        .def_prop_ro("n_layer", [](const Model & model) { return model.hparams().n_layer; })
        .def_prop_ro("n_embd", [](const Model & model) { return model.hparams().n_embd; })
        .def_prop_ro("n_head", [](const Model & model) { return model.hparams().n_head; })
        .def_prop_ro("n_head_kv", [](const Model & model) { return model.hparams().n_head_kv; })
        .def_prop_ro("head_dim", [](const Model & model) { return model.hparams().head_dim; })
        .def_prop_ro("bos_token_id", &Model::bos_token)
        .def_prop_ro("eos_token_id", &Model::eos_token)
        .def_prop_ro("mask_token_id", &Model::mask_token)
        .def_prop_ro("add_bos", &Model::add_bos)
        .def_prop_ro("lora_rank", [](const Model & model) { return model.lora() ? model.lora()->rank() : 0; })
        .def("is_eog", &Model::is_eog, "token"_a)
        .def(
            "tokenize",
            [](const Model & model, const nb::bytes & text, bool add_special, bool parse_special) {
                const std::string held(text.c_str(), text.size());
                const nb::gil_scoped_release release;
                return model.tokenize(held, add_special, parse_special);
            },
            "text"_a, "add_special"_a, "parse_special"_a)
        .def(
            "token_to_piece",
            [](const Model & model, llama_token token, bool special) {
                const std::string piece = model.token_to_piece(token, special);
                return nb::bytes(piece.data(), piece.size());
            },
            "token"_a, "special"_a);
}

void bind_results(nb::module_ & m) {
    nb::class_<TokenLogprob>(m, "TokenLogprob")
        .def_ro("token", &TokenLogprob::token)
        .def_ro("logprob", &TokenLogprob::logprob);
    nb::class_<PositionLogprobs>(m, "PositionLogprobs")
        .def_ro("chosen", &PositionLogprobs::chosen)
        .def_ro("top", &PositionLogprobs::top);
    nb::class_<Event>(m, "Event")
        .def_ro("request_id", &Event::request_id)
        .def_ro("tokens", &Event::tokens)
        .def_ro("block", &Event::block)
        .def_ro("confidence", &Event::confidence)
        .def_ro("logprobs", &Event::logprobs)
        .def_ro("error", &Event::error)
        .def_prop_ro("finish_reason", [](const Event & event) { return finish_name(event.finish); });
    nb::class_<Stats>(m, "Stats")
        .def_ro("prompt_tokens", &Stats::prompt_tokens)
        .def_ro("cached_tokens", &Stats::cached_tokens)
        .def_ro("completion_tokens", &Stats::completion_tokens)
        .def_ro("forward_passes", &Stats::forward_passes)
        .def_ro("prefill_passes", &Stats::prefill_passes)
        .def_ro("drafted", &Stats::drafted)
        .def_ro("accepted", &Stats::accepted)
        .def_ro("cycles", &Stats::cycles)
        .def_ro("loop_period", &Stats::loop_period)
        .def_ro("loop_repeated", &Stats::loop_repeated)
        .def_ro("prompt_seconds", &Stats::prompt_seconds)
        .def_ro("generation_seconds", &Stats::generation_seconds);
}

// Sets `field` from the keyword argument `name`, if it is there, and takes that away.
template <class T>
void take(nb::dict & arguments, const char * name, T & field) {
    if (arguments.contains(name)) {
        field = nb::cast<T>(arguments[name]);
        nb::del(arguments[name]);
    }
}

SamplerOptions sampler_options(nb::dict & arguments) {
    SamplerOptions o;
    take(arguments, "temperature", o.temperature);
    take(arguments, "top_k", o.top_k);
    take(arguments, "top_p", o.top_p);
    take(arguments, "min_p", o.min_p);
    take(arguments, "typical_p", o.typical_p);
    take(arguments, "repeat_penalty", o.repeat_penalty);
    take(arguments, "frequency_penalty", o.frequency_penalty);
    take(arguments, "presence_penalty", o.presence_penalty);
    take(arguments, "penalty_last_n", o.penalty_last_n);
    take(arguments, "dry_multiplier", o.dry_multiplier);
    take(arguments, "dry_base", o.dry_base);
    take(arguments, "dry_allowed_length", o.dry_allowed_length);
    take(arguments, "dry_penalty_last_n", o.dry_penalty_last_n);
    take(arguments, "dry_sequence_breakers", o.dry_sequence_breakers);
    take(arguments, "grammar", o.grammar);
    take(arguments, "seed", o.seed);
    take(arguments, "coupled", o.coupled);
    std::unordered_map<llama_token, float> bias;
    take(arguments, "logit_bias", bias);
    for (const auto & [token, value] : bias) {
        o.logit_bias.push_back({token, value});
    }
    return o;
}

RequestOptions request_options(nb::dict & arguments) {
    RequestOptions o;
    std::string mode, reveal = "confidence";
    take(arguments, "mode", mode);
    take(arguments, "reveal", reveal);
    o.mode = parse_mode(mode);
    o.reveal = parse_reveal(reveal);
    take(arguments, "max_tokens", o.max_tokens);
    take(arguments, "block_length", o.block_length);
    take(arguments, "threshold", o.threshold);
    take(arguments, "steps", o.steps);
    take(arguments, "ignore_eos", o.ignore_eos);
    take(arguments, "use_lora", o.use_lora);
    take(arguments, "suffix", o.suffix);
    take(arguments, "stop", o.stop);
    take(arguments, "loop_window", o.loop_window);
    take(arguments, "loop_min_repeats", o.loop_min_repeats);
    take(arguments, "think_begin", o.think_begin);
    take(arguments, "think_end", o.think_end);
    take(arguments, "max_thinking_tokens", o.max_thinking_tokens);
    take(arguments, "logprobs", o.logprobs);
    take(arguments, "post_sampling_probs", o.post_sampling_probs);
    o.sampler = sampler_options(arguments);
    return o;
}

int64_t submit(Engine & engine, std::vector<llama_token> tokens, const nb::kwargs & kwargs) {
    nb::dict arguments;
    arguments.update(kwargs);
    const RequestOptions options = request_options(arguments);
    if (arguments.size() > 0) {
        const std::string name = nb::cast<std::string>(arguments.keys()[0]);
        throw nb::type_error(("submit() got an unexpected keyword argument '" + name + "'").c_str());
    }
    const nb::gil_scoped_release release;
    return engine.submit(std::move(tokens), options);
}

nb::ndarray<nb::numpy, float, nb::ndim<2>> logits(Engine & engine, const std::vector<llama_token> & tokens,
                                                  int block_start, bool lora) {
    auto * data = new std::vector<float>();
    const nb::capsule owner(data, [](void * p) noexcept { delete static_cast<std::vector<float> *>(p); });
    {
        const nb::gil_scoped_release release;
        *data = engine.logits(tokens, block_start, lora);
    }
    return {data->data(), {tokens.size(), data->size() / tokens.size()}, owner};
}

void bind_engine(nb::module_ & m) {
    using released = nb::call_guard<nb::gil_scoped_release>;
    nb::class_<Engine>(m, "Engine")
        .def(
            "__init__",
            [](Engine * self, const Model & model, int n_ctx, int n_batch, int n_threads, const std::string & type_k,
               const std::string & type_v, bool flash_attn, int n_parallel, bool use_scheduler, bool exact_reuse) {
                const nb::gil_scoped_release release;
                new (self) Engine(model, {n_ctx, n_batch, n_threads, n_parallel, type_k, type_v, flash_attn,
                                          use_scheduler, exact_reuse});
            },
            "model"_a, nb::kw_only(), "n_ctx"_a, "n_batch"_a = 512, "n_threads"_a = 0, "type_k"_a = "f16",
            "type_v"_a = "f16", "flash_attn"_a = true, "n_parallel"_a = 1, "use_scheduler"_a = false,
            "exact_reuse"_a = false, nb::keep_alive<1, 2>())
        .def_prop_ro("n_ctx", &Engine::n_ctx)
        .def_prop_ro("memory",
                     [](const Engine & engine) {
                         return std::unordered_map<std::string, size_t>{{"kv_cache", engine.kv_cache_bytes()},
                                                                        {"compute", engine.compute_bytes()}};
                     })
        .def("submit", &submit, "tokens"_a, "options"_a)
        .def("step", &Engine::step, released())
        .def("cancel", &Engine::cancel, "request_id"_a, released())
        .def("stats", &Engine::stats, "request_id"_a, released())
        .def("release", &Engine::release, "request_id"_a, released())
        .def("clear_cache", &Engine::clear_cache, released())
        .def("logits", &logits, "tokens"_a, "block_start"_a = -1, "lora"_a = false);
}

void bind_loop_detector(nb::module_ & m) {
    nb::class_<LoopDetector>(m, "LoopDetector")
        .def(nb::init<int, int>(), "window"_a = LoopDetector::WINDOW, "min_repeats"_a = LoopDetector::MIN_REPEATS)
        .def("push", &LoopDetector::push, "token"_a)
        .def_prop_ro("period", &LoopDetector::period)
        .def_prop_ro("repeated", &LoopDetector::repeated)
        .def("reset", &LoopDetector::reset);
}

}  // namespace

NB_MODULE(_native, m) {
    Log::install();
    m.attr("LLAMA_CPP_PYTHON_VERSION") = PYTRIMODE_LLAMA_CPP_PYTHON_VERSION;
    m.def("set_log_verbose", &Log::set_verbose, "verbose"_a);
    m.attr("LOOP_WINDOW") = static_cast<int>(LoopDetector::WINDOW);
    m.attr("LOOP_MIN_REPEATS") = static_cast<int>(LoopDetector::MIN_REPEATS);
    bind_activations(m);
    bind_encode(m);
    bind_quantize(m);
    bind_model(m);
    bind_results(m);
    bind_engine(m);
    bind_state(m);
    bind_loop_detector(m);
}
