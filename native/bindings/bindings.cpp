// pytrimode._native: the engine as Python sees it. Documented in pytrimode/_native.pyi.
#include <chrono>
#include <functional>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/set.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include "decoders/loop_detector.h"
#include "engine/engine.h"
#include "model/constraint_vocab.h"
#include "model/lora.h"
#include "model/model.h"
#include "util/llguidance.h"
#include "util/log.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

void bind_activations(nb::module_ & m);
void bind_attention(nb::module_ & m);
void bind_devices(nb::module_ & m);
void bind_encode(nb::module_ & m);
void bind_gguf(nb::module_ & m);
void bind_plan(nb::module_ & m);
void bind_products(nb::module_ & m);
void bind_quantize(nb::module_ & m);
void bind_speculation(nb::module_ & m);
void bind_state(nb::module_ & m);
void bind_vision(nb::module_ & m);

namespace {

constexpr auto SIGNAL_INTERVAL = std::chrono::milliseconds(5);

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
               bool use_mmap, bool vocab_only, const std::vector<std::string> & devices, const std::string & split_mode,
               int main_gpu, const std::vector<float> & tensor_split, bool repack) {
                const nb::gil_scoped_release release;
                new (self) Model(path, {lora_path.value_or(""),
                                        n_gpu_layers,
                                        use_mmap,
                                        vocab_only,
                                        /*no_alloc=*/false,
                                        {devices, split_mode, main_gpu, tensor_split},
                                        repack});
            },
            "path"_a, nb::kw_only(), "lora_path"_a = nb::none(), "n_gpu_layers"_a = 0, "use_mmap"_a = true,
            "vocab_only"_a = false, "devices"_a = std::vector<std::string>{}, "split_mode"_a = "layer",
            "main_gpu"_a = 0, "tensor_split"_a = std::vector<float>{}, "repack"_a = true)
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
            "prepare_grammars", [](const Model & model) { model.constraint_vocab(); },
            nb::call_guard<nb::gil_scoped_release>())
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
            "token"_a, "special"_a)
        .def(
            "set_weight",
            [](Model & model, const std::string & name, const nb::bytes & data) {
                model.set_weight(name, data.c_str(), data.size());
            },
            "name"_a, "data"_a);
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
        .def_ro("draft", &Event::draft)
        .def_ro("logprobs", &Event::logprobs)
        .def_ro("error", &Event::error)
        .def_ro("stats", &Event::stats)
        .def_prop_ro("finish_reason", [](const Event & event) { return finish_name(event.finish); });
    nb::class_<Stats>(m, "Stats")
        .def_ro("prompt_tokens", &Stats::prompt_tokens)
        .def_ro("cached_tokens", &Stats::cached_tokens)
        .def_ro("completion_tokens", &Stats::completion_tokens)
        .def_ro("forward_passes", &Stats::forward_passes)
        .def_ro("fused_passes", &Stats::fused_passes)
        .def_ro("prefill_passes", &Stats::prefill_passes)
        .def_ro("drafted", &Stats::drafted)
        .def_ro("accepted", &Stats::accepted)
        .def_ro("cycles", &Stats::cycles)
        .def_ro("simulated_acceptance", &Stats::simulated_acceptance)
        .def_ro("loop_period", &Stats::loop_period)
        .def_ro("loop_repeated", &Stats::loop_repeated)
        .def_ro("prompt_seconds", &Stats::prompt_seconds)
        .def_ro("generation_seconds", &Stats::generation_seconds)
        .def_ro("compute_seconds", &Stats::compute_seconds);
}

// Sets `field` from the keyword argument `name`, if it is there, and takes that away. TypeError for a wrong type.
template <class T>
void take(nb::dict & arguments, const char * name, T & field) {
    if (arguments.contains(name)) {
        const nb::object value = nb::borrow(arguments[name]);
        if (!nb::try_cast<T>(value, field)) {
            const std::string found = nb::inst_name(value).c_str();
            throw nb::type_error((std::string("submit(): ") + name + " cannot be of type " + found).c_str());
        }
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
    take(arguments, "grammar_after", o.grammar_after);
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
    std::string mode, reveal = "confidence", fusing = "never";
    take(arguments, "mode", mode);
    take(arguments, "reveal", reveal);
    o.mode = parse_mode(mode);
    o.reveal = parse_reveal(reveal);
    take(arguments, "fusing", fusing);
    o.fusing = parse_fusing(fusing);
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
    take(arguments, "keep", o.keep);
    take(arguments, "logprobs", o.logprobs);
    take(arguments, "post_sampling_probs", o.post_sampling_probs);
    take(arguments, "simulated_acceptance", o.simulated.rates);
    take(arguments, "simulated_after_rejection", o.simulated.after_rejection);
    o.sampler = sampler_options(arguments);
    return o;
}

// Between passes: a signal handler runs in the main thread, and only under the GIL, which another thread may hold for
// milliseconds. So a pass that is shorter than that is not always followed by a look.
std::function<void()> signal_check() {
    const nb::module_ threading = nb::module_::import_("threading");
    if (!threading.attr("current_thread")().is(threading.attr("main_thread")())) {
        return [] {};
    }
    using Clock = std::chrono::steady_clock;
    return [last = Clock::now()]() mutable {
        if (Clock::now() - last < SIGNAL_INTERVAL) {
            return;
        }
        const nb::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) {
            throw nb::python_error();
        }
        last = Clock::now();
    };
}

std::vector<Event> wait(Engine & engine, int64_t channel) {
    const auto check = signal_check();
    const nb::gil_scoped_release release;
    return engine.wait(channel, check);
}

Event wait_to_end(Engine & engine, int64_t id) {
    const auto check = signal_check();
    const nb::gil_scoped_release release;
    return engine.wait_to_end(id, check);
}

std::unordered_map<std::string, double> times(Engine & engine) {
    const ForwardTimes t = engine.times();
    return {{"passes", t.passes},
            {"rows", t.rows},
            {"graphs", t.graphs},
            {"build", t.build},
            {"inputs", t.inputs},
            {"compute", t.compute},
            {"outputs", t.outputs},
            {"cells", t.cells},
            {"bytes_in", t.bytes_in},
            {"bytes_out", t.bytes_out},
            {"step", engine.state().step_seconds}};
}

std::unordered_map<std::string, int> state(Engine & engine) {
    const EngineState s = engine.state();
    return {{"n_cells", s.n_cells},     {"n_free_cells", s.n_free_cells}, {"n_idle_cells", s.n_idle_cells},
            {"n_running", s.n_running}, {"n_suspended", s.n_suspended},   {"n_queued", s.n_queued}};
}

int64_t submit(Engine & engine, std::vector<llama_token> tokens, const nb::kwargs & kwargs) {
    nb::dict arguments;
    arguments.update(kwargs);
    int64_t channel = 0;
    take(arguments, "channel", channel);
    std::vector<ImageHandle> images;
    llama_token image_pad = -1;
    take(arguments, "images", images);
    take(arguments, "image_pad", image_pad);
    const RequestOptions options = request_options(arguments);
    if (arguments.size() > 0) {
        const std::string name = nb::cast<std::string>(arguments.keys()[0]);
        throw nb::type_error(("submit() got an unexpected keyword argument '" + name + "'").c_str());
    }
    const nb::gil_scoped_release release;
    tokens = place_images(std::move(tokens), images, image_pad);
    return engine.submit(std::move(tokens), options, channel, std::move(images));
}

nb::ndarray<nb::numpy, float, nb::ndim<2>> logits(Engine & engine, const std::vector<llama_token> & tokens,
                                                  int block_start, bool lora, int first,
                                                  const std::vector<ImageHandle> & images, llama_token image_pad) {
    auto * data = new std::vector<float>();
    const nb::capsule owner(data, [](void * p) noexcept { delete static_cast<std::vector<float> *>(p); });
    {
        const nb::gil_scoped_release release;
        *data = engine.logits({place_images(tokens, images, image_pad), block_start, lora, first});
    }
    const size_t n_rows = tokens.size() - first;
    return {data->data(), {n_rows, data->size() / n_rows}, owner};
}

void bind_engine(nb::module_ & m) {
    using released = nb::call_guard<nb::gil_scoped_release>;
    nb::class_<Engine>(m, "Engine")
        .def(
            "__init__",
            [](Engine * self, const Model & model, int n_ctx, int n_batch, int n_ubatch, int n_threads,
               int n_threads_batch, bool fewer_threads, const std::string & type_k, const std::string & type_v,
               bool flash_attn, int n_parallel, int max_queue, bool use_scheduler, bool device_graphs,
               bool fused_stores, const std::vector<int> & row_steps, int exact_rows, bool images) {
                const nb::gil_scoped_release release;
                new (self) Engine(model, {n_ctx, n_batch, n_ubatch, n_threads, n_threads_batch, fewer_threads,
                                          n_parallel, max_queue, type_k, type_v, flash_attn, use_scheduler,
                                          device_graphs, fused_stores, row_steps, exact_rows, images});
            },
            "model"_a, nb::kw_only(), "n_ctx"_a, "n_batch"_a = 512, "n_ubatch"_a = 128, "n_threads"_a = 0,
            "n_threads_batch"_a = 0, "fewer_threads"_a = false, "type_k"_a = "f16", "type_v"_a = "f16",
            "flash_attn"_a = true, "n_parallel"_a = 1, "max_queue"_a = -1, "use_scheduler"_a = false,
            "device_graphs"_a = false, "fused_stores"_a = true, "row_steps"_a = std::vector<int>{}, "exact_rows"_a = 0,
            "images"_a = false, nb::keep_alive<1, 2>())
        .def_prop_ro("n_ctx", &Engine::n_ctx)
        .def_prop_ro("n_parallel", &Engine::n_parallel)
        .def_prop_ro("state", &state)
        .def_prop_ro("times", &times)
        .def_prop_ro("memory",
                     [](const Engine & engine) {
                         return std::unordered_map<std::string, size_t>{{"kv_cache", engine.kv_cache_bytes()},
                                                                        {"compute", engine.compute_bytes()}};
                     })
        .def_prop_ro("row_steps", [](const Engine & engine) { return engine.forward().row_steps(); })
        .def(
            "operations", [](const Engine & engine, int n_rows) { return engine.forward().operations(n_rows); },
            "n_rows"_a)
        .def_prop_ro("left_to_cpu", [](const Engine & engine) { return engine.forward().left_to_cpu(); })
        .def_prop_ro("draft_length", &Engine::draft_length, nb::rv_policy::reference_internal)
        .def("submit", &submit, "tokens"_a, "options"_a)
        .def("wait", &wait, "channel"_a)
        .def("wait_to_end", &wait_to_end, "request_id"_a)
        .def("step", &Engine::step, released())
        .def("cancel", &Engine::cancel, "request_id"_a, released())
        .def("release", &Engine::release, "request_id"_a, released())
        .def("hold", &Engine::hold, "request_id"_a, "held"_a, released())
        .def("close", &Engine::close, released())
        .def("clear_cache", &Engine::clear_cache, released())
        .def("logits", &logits, "tokens"_a, "block_start"_a = -1, "lora"_a = false, "first"_a = 0,
             "images"_a = std::vector<ImageHandle>{}, "image_pad"_a = -1);
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
    nb::exception<QueueFull>(m, "QueueFullError", PyExc_RuntimeError);
    Log::install();
    m.attr("LLAMA_CPP_PYTHON_VERSION") = PYTRIMODE_LLAMA_CPP_PYTHON_VERSION;
    m.def("set_log_verbose", &Log::set_verbose, "verbose"_a);
    m.def("load_llguidance", &llg::load, "path"_a);
    m.attr("LOOP_WINDOW") = static_cast<int>(LoopDetector::WINDOW);
    m.attr("LOOP_MIN_REPEATS") = static_cast<int>(LoopDetector::MIN_REPEATS);
    bind_activations(m);
    bind_attention(m);
    bind_encode(m);
    bind_gguf(m);
    bind_quantize(m);
    bind_model(m);
    bind_results(m);
    nb::class_<ImageHandle>(m, "Image");
    bind_engine(m);
    bind_speculation(m);
    bind_state(m);
    bind_vision(m);
    bind_devices(m);
    bind_plan(m);
    bind_products(m);
    bind_loop_detector(m);
}
