// pytrimode._native: the engine as Python sees it. Its stub, pytrimode/_native.pyi, is written by tools/native_stub.py.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings/gil.h"
#include "decoders/loop_detector.h"
#include "util/ggml_abort.h"
#include "util/llguidance.h"
#include "util/log.h"
#include "util/lost_file.h"
#include "util/out_of_memory.h"
#include "util/process_end.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

void bind_activations(nb::module_ & m);
void bind_attention(nb::module_ & m);
void bind_devices(nb::module_ & m);
void bind_encode(nb::module_ & m);
void bind_engine(nb::module_ & m);
void bind_events(nb::module_ & m);
void bind_gguf(nb::module_ & m);
void bind_images(nb::module_ & m);
void bind_model(nb::module_ & m);
void bind_plan(nb::module_ & m);
void bind_products(nb::module_ & m);
void bind_quantize(nb::module_ & m);
void bind_request(nb::module_ & m);
void bind_speculation(nb::module_ & m);
void bind_state(nb::module_ & m);
void bind_vision(nb::module_ & m);

namespace {

void bind_loop_detector(nb::module_ & m) {
    m.attr("LOOP_WINDOW") = static_cast<int>(LoopDetector::WINDOW);
    m.attr("LOOP_MIN_REPEATS") = static_cast<int>(LoopDetector::MIN_REPEATS);
    nb::class_<LoopDetector>(m, "LoopDetector",
                             "Finds an endless repetition in an output (`native/decoders/loop_detector.h`); for tests.")
        .def(nb::init<int, int>(), "window"_a = LoopDetector::WINDOW, "min_repeats"_a = LoopDetector::MIN_REPEATS,
             "Count from nothing. Raises ValueError for a window below 3 or min_repeats below 2.")
        .def("push", &LoopDetector::push, "token"_a, "Add a token; True while the output ends in a loop.")
        .def_prop_ro("period", &LoopDetector::period, "The shortest period of the loop in tokens, 0 outside one.")
        .def_prop_ro("repeated", &LoopDetector::repeated,
                     "How many tokens at the end repeat what came before: dropping them leaves one copy.")
        .def("reset", &LoopDetector::reset, "Forget all tokens.");
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() =
        "The compiled engine (`native/`): llama.cpp's model loading and kernels under our graph, cache and "
        "decoders.\n\n"
        "Low-level and unstable: applications use `pytrimode.TriMode`.";
    // Python does not free every object before the interpreter ends, such as those of daemon threads: no fault of ours.
    nb::set_leak_warnings(false);
    Log::install();
    LostFile::install();
    GgmlAbort::install();
    nb::exception<OutOfMemory>(m, "OutOfMemoryError", PyExc_RuntimeError).attr("__doc__") =
        "A device or the machine has no room for weights, cache, compute buffers or a picture.";
    m.attr("LLAMA_CPP_PYTHON_VERSION") = PYTRIMODE_LLAMA_CPP_PYTHON_VERSION;
#ifdef PYTRIMODE_OWN_LLAMA_CPP
    m.attr("OWN_LLAMA_CPP") = true;
#else
    m.attr("OWN_LLAMA_CPP") = false;
#endif
    m.def(
        "set_log_verbose", &Log::set_verbose, "verbose"_a,
        "Show llama.cpp's log on stderr, control characters written out; off, only the last error is kept, for our own "
        "messages.");
    m.def(
        "set_log_file", &Log::set_file, "path"_a,
        "Append it to a file in place of stderr; \"\": stderr again. Raises RuntimeError where it cannot be written.");
    m.def("set_log_json", &Log::set_json, "json"_a, "Show it as a JSON object per line, as the server's log.");
    m.def("load_llguidance", &llg::load, "path"_a,
          "Load llguidance's shared library, for grammars. Raises RuntimeError where it is not as the engine expects.");
    m.def(
        "begin_process_end", &ProcessEnd::begin,
        "Hold all other threads that are in a call, or begin one, when they come back for the GIL: the process ends.");
    m.def(
        "stay_if_over", [] {}, nb::call_guard<GilReleased>(),
        "Stay here for good in another thread than the one that ends the process, once it ends.");
    m.def("calls_under_way", &ProcessEnd::n_calls, "Count calls without the GIL that have not come back.");
    m.def("forget_calls", &ProcessEnd::forget_calls, "Count from 0, in a fork: other threads are not in it.");
    bind_gguf(m);
    bind_encode(m);
    bind_quantize(m);
    bind_products(m);
    bind_attention(m);
    bind_model(m);
    bind_activations(m);
    bind_events(m);
    bind_speculation(m);
    bind_images(m);
    bind_request(m);
    bind_engine(m);
    bind_state(m);
    bind_loop_detector(m);
    bind_vision(m);
    bind_devices(m);
    bind_plan(m);
}
