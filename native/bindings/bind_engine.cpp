// The engine as Python sees it: pytrimode._native.Engine.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/set.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <functional>
#include <tuple>

#include "bindings/gil.h"
#include "engine/engine.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

constexpr auto SIGNAL_INTERVAL = std::chrono::milliseconds(5);

using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

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

int64_t submit(Engine & engine, std::vector<llama_token> tokens, const RequestOptions & options, int64_t channel,
               std::vector<ImageHandle> images, llama_token image_pad) {
    const GilReleased release;
    tokens = place_images(std::move(tokens), images, image_pad);
    return engine.submit(std::move(tokens), options, channel, std::move(images));
}

std::vector<Event> wait(Engine & engine, int64_t channel) {
    const auto check = signal_check();
    const GilReleased release;
    return engine.wait(channel, check);
}

Event wait_to_end(Engine & engine, int64_t id) {
    const auto check = signal_check();
    const GilReleased release;
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

std::unordered_map<std::string, size_t> memory(const Engine & engine) {
    return {{"kv_cache", engine.kv_cache_bytes()}, {"compute", engine.compute_bytes()}};
}

nb::ndarray<nb::numpy, float, nb::ndim<2>> logits(Engine & engine, const std::vector<llama_token> & tokens,
                                                  int block_start, bool lora, int first,
                                                  const std::vector<ImageHandle> & images, llama_token image_pad,
                                                  uint64_t cache_scope, const std::vector<float> & lora_scales) {
    auto * data = new std::vector<float>();
    const nb::capsule owner(data, [](void * p) noexcept { delete static_cast<std::vector<float> *>(p); });
    {
        const GilReleased release;
        *data = engine.logits(
            {place_images(tokens, images, image_pad), block_start, lora, first, cache_scope, lora_scales});
    }
    const size_t n_rows = tokens.size() - first;
    return {data->data(), {n_rows, data->size() / n_rows}, owner};
}

Scores score(Engine & engine, const std::vector<llama_token> & tokens,
             std::vector<std::vector<llama_token>> continuations, const std::vector<ImageHandle> & images,
             llama_token image_pad, uint64_t cache_scope, const std::vector<float> & lora_scales,
             const std::optional<nb::typed<nb::callable, void()>> & check) {
    const auto signals = signal_check();
    const auto both = [&] {
        signals();
        if (check) {
            const nb::gil_scoped_acquire acquire;
            (*check)();
        }
    };
    const GilReleased release;
    return engine.score({place_images(tokens, images, image_pad), std::move(continuations), cache_scope, lora_scales},
                        both);
}

ImageHandle add_image(Engine & engine, const std::string & key, const Rows & rows) {
    const GilReleased release;
    return engine.images().add(key, ImageVectors(rows.data(), rows.data() + rows.size()));
}

using ImageRun = std::tuple<int, int, std::string, int, int>;

std::vector<ImageRun> image_runs(Engine & engine, const std::vector<llama_token> & tokens) {
    std::vector<ImageRun> runs;
    for (const ImageRows::Run & run : engine.images().rows().runs(tokens)) {
        runs.emplace_back(run.begin, run.n, run.key, run.first, run.n_rows);
    }
    return runs;
}

void make(Engine * self, const Model & model, int n_ctx, int n_batch, int n_ubatch, int n_threads, int n_threads_batch,
          bool fewer_threads, const std::string & type_k, const std::string & type_v, bool flash_attn, int n_parallel,
          int max_queue, bool use_scheduler, bool device_graphs, bool fused_stores, const std::vector<int> & row_steps,
          int exact_rows, bool images) {
    const GilReleased release;
    new (self) Engine(
        model, {n_ctx, n_batch, n_ubatch, n_threads, n_threads_batch, fewer_threads, n_parallel, max_queue, type_k,
                type_v, flash_attn, use_scheduler, device_graphs, fused_stores, row_steps, exact_rows, images});
}

constexpr const char * ABOUT_MAKING =
    "`n_threads_batch`: threads of passes with rows of prompts, 0: as many as of the others. `fewer_threads`: the "
    "others take one where that is as fast, measured on the way. `images`: prompts may have rows of images.\n\n"
    "For tests: `use_scheduler` sends a model through ggml's scheduler where it would not be needed; `device_graphs` "
    "computes on the CPU as on a device (embedding looked up outside, argmax within, rows padded).\n\n"
    "On devices only: `fused_stores`, see `GraphOptions` in native/forward/graph.h; `row_steps`, the numbers of rows "
    "that passes are padded to (powers of two without any and beyond the last); `exact_rows`, see `EngineOptions` in "
    "native/engine/engine_options.h. Raises ValueError for options out of range.";

constexpr const char * ABOUT_STATE =
    "Now: `n_cells` and of these `n_free_cells`, `n_idle_cells` (held by finished requests only); requests "
    "`n_running`, `n_suspended` (for lack of cells), `n_queued`.";

constexpr const char * ABOUT_TIMES =
    "So far: `passes`, their `rows`, `graphs` built; seconds of all steps (`step`), of these `build` (graphs), "
    "`inputs`, `compute` (the graphs), `outputs` (argmax); `cells` that attention read, in each layer; bytes written "
    "to inputs (`bytes_in`) and read from outputs (`bytes_out`; on the CPU no logits, which are read where they are).";

constexpr const char * ABOUT_SUBMIT =
    "Queue a request, without waiting, and return its number. Its events go to `channel`; 0: to one of its own, which "
    "has that number. With `images`, these stand where the tokens are `image_pad`, in order.\n\n"
    "Raises ValueError for options out of range, for a grammar that does not parse and for tokens that no prompt could "
    "have, QueueFullError when `n_parallel` requests run and `max_queue` wait.";

constexpr const char * ABOUT_WAIT =
    "Return the next events of a channel; none when all its requests have ended. Steps the engine meanwhile, for "
    "everybody, or waits for the thread that does. The GIL is released.\n\n"
    "Raises RuntimeError when the engine is closed, KeyboardInterrupt (and loses nothing) between two passes.";

void add_figures(nb::class_<Engine> & engine) {
    engine.def_prop_ro("n_ctx", &Engine::n_ctx, "Cells of the cache, shared by all requests.")
        .def_prop_ro("n_parallel", &Engine::n_parallel, "Requests that run side by side.")
        .def_prop_ro("state", &state, ABOUT_STATE)
        .def_prop_ro("times", &times, ABOUT_TIMES)
        .def_prop_ro("memory", &memory, "Bytes: `kv_cache`, `compute`.")
        .def_prop_ro(
            "row_steps", [](const Engine & self) { return self.forward().row_steps(); },
            "The numbers of rows that passes are padded to; none on a CPU.")
        .def(
            "operations", [](const Engine & self, int n_rows) { return self.forward().operations(n_rows); }, "n_rows"_a,
            "Name ggml's operations, in their order, in a pass of `n_rows` rows without the drafter LoRA.")
        .def_prop_ro(
            "left_to_cpu", [](const Engine & self) { return self.forward().left_to_cpu(); },
            "Operations on a device's weights or cache that it has no kernel for, such as \"FLASH_ATTN_EXT on "
            "CUDA0\".")
        .def_prop_ro("draft_length", &Engine::draft_length, nb::rv_policy::reference_internal,
                     "The engine's own; for use while no request runs.")
        .def("learned", &Engine::learned, "patience"_a, nb::call_guard<GilReleased>(),
             "Return what the choice of drafts has learned from passes. None where there were none, where drafts were "
             "accepted by lot, and where a pass does not end in `patience` seconds.");
}

void add_requests(nb::class_<Engine> & engine) {
    using released = nb::call_guard<GilReleased>;
    engine
        .def("submit", &submit, "tokens"_a, "options"_a, "channel"_a = 0, "images"_a = std::vector<ImageHandle>{},
             "image_pad"_a = -1, ABOUT_SUBMIT)
        .def("wait", &wait, "channel"_a, ABOUT_WAIT)
        .def("wait_to_end", &wait_to_end, "request_id"_a,
             "Wait for all of a request's events, as one: every token, and its end. Raises as `wait` does.")
        .def("step", &Engine::step, released(),
             "Run one forward pass for whatever the active requests plan; returns all events that wait. For tests.")
        .def("cancel", &Engine::cancel, "request_id"_a, released(),
             "End a request with the current pass, with an event. Raises ValueError for an unknown one.")
        .def("release", &Engine::release, "request_id"_a, released(),
             "Forget a request, at once; one that runs is cancelled. Its cells stay for prompts that begin alike. "
             "Raises ValueError for an unknown one.")
        .def("hold", &Engine::hold, "request_id"_a, "held"_a, released(),
             "Hold a request back between passes, as its reader is behind, or let it go on. Its cells and its place "
             "stay. Raises ValueError for an unknown one.")
        .def("close", &Engine::close, released(), "Make `submit` and `wait` raise RuntimeError.")
        .def("clear_cache", &Engine::clear_cache, released(), "Drop what finished requests have left.");
}

void add_images(nb::class_<Engine> & engine) {
    engine
        .def("add_image", &add_image, "key"_a, "rows"_a,
             "Give ids to the rows [n, n_embd] of an image, whose content `key` names. Known content keeps its ids. "
             "Raises ValueError for rows of another width or number.")
        .def(
            "add_image",
            [](Engine & self, const std::string & key, int n_rows) { return self.images().add(key, n_rows); }, "key"_a,
            "n_rows"_a, nb::call_guard<GilReleased>(),
            "Do the same without the rows, for cells that a saved state has.")
        .def("image_runs", &image_runs, "tokens"_a,
             "List the rows of images among tokens that `save_state` returned: where each run begins and its "
             "length, the image's key, the first of its rows, and how many it has.");
}

}  // namespace

void bind_engine(nb::module_ & m) {
    nb::exception<QueueFull>(m, "QueueFullError", PyExc_RuntimeError).attr("__doc__") =
        "As many requests run and wait as may.";
    nb::exception<CacheFull>(m, "CacheFullError", PyExc_RuntimeError).attr("__doc__") =
        "Running requests have the cells that are asked for.";
    nb::class_<Engine> engine(m, "Engine",
                              "Runs requests over one model and one KV cache: `submit`, then `wait` until each has its "
                              "finish reason.\n\nAny thread may call anything.");
    engine.def("__init__", &make, "model"_a, nb::kw_only(), "n_ctx"_a, "n_batch"_a = 512, "n_ubatch"_a = 128,
               "n_threads"_a = 0, "n_threads_batch"_a = 0, "fewer_threads"_a = false, "type_k"_a = "f16",
               "type_v"_a = "f16", "flash_attn"_a = true, "n_parallel"_a = 1, "max_queue"_a = -1,
               "use_scheduler"_a = false, "device_graphs"_a = false, "fused_stores"_a = true,
               "row_steps"_a = std::vector<int>{}, "exact_rows"_a = 0, "images"_a = false, nb::keep_alive<1, 2>(),
               ABOUT_MAKING);
    add_figures(engine);
    add_requests(engine);
    add_images(engine);
    engine.def(
        "logits", &logits, "tokens"_a, "block_start"_a = -1, "lora"_a = false, "first"_a = 0,
        "images"_a = std::vector<ImageHandle>{}, "image_pad"_a = -1, "cache_scope"_a = 0,
        "lora_scales"_a = std::vector<float>{},
        "[n - first, n_vocab]: causal rows; from `block_start` on in both directions (the drafter LoRA on these only). "
        "With `first` above 0, causal rows before it may come from the cache, as a request's with this `cache_scope` "
        "and these `lora_scales`, and stay there.");
    engine.def(
        "score", &score, "tokens"_a, "continuations"_a, "images"_a = std::vector<ImageHandle>{}, "image_pad"_a = -1,
        "cache_scope"_a = 0, "lora_scales"_a = std::vector<float>{}, "check"_a = nb::none(),
        "Return the log-probabilities of the tokens of each continuation of a prompt, as mode ar reports them: the "
        "prompt is computed once, continuations side by side, and other requests go on meanwhile. Cache as for "
        "`logits`. `check`: called without arguments between passes; what it raises ends the scoring. Raises "
        "ValueError for no continuation, an empty one, and one that does not fit the context; CacheFullError when "
        "running requests leave no room.");
}
