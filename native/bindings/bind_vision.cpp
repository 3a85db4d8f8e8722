// The vision tower as Python sees it.
#include <atomic>
#include <chrono>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings/gil.h"
#include "vision/tower.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

constexpr auto SIGNAL_INTERVAL = std::chrono::milliseconds(20);

using Picture = nb::ndarray<const uint8_t, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<nb::numpy, float>;

// Set by any thread; ends an encoding that looks at it.
struct Abort {
    std::atomic<bool> wanted{false};
};

Floats array(std::vector<float> && values, std::initializer_list<size_t> shape) {
    auto * data = new std::vector<float>(std::move(values));
    const nb::capsule owner(data, [](void * p) noexcept { delete static_cast<std::vector<float> *>(p); });
    return Floats(data->data(), shape, owner);
}

bool in_main_thread() {
    const nb::module_ threading = nb::module_::import_("threading");
    return threading.attr("current_thread")().is(threading.attr("main_thread")());
}

Floats encode(Tower & tower, const Picture & picture, int max_side, Abort * abort) {
    using Clock = std::chrono::steady_clock;
    const bool sees_signals = in_main_thread();
    bool interrupted = false;
    std::vector<float> rows;
    const int height = static_cast<int>(picture.shape(0)), width = static_cast<int>(picture.shape(1));
    try {
        const GilReleased release;
        const auto stop = [&, last = Clock::now()]() mutable {
            if (sees_signals && Clock::now() - last >= SIGNAL_INTERVAL) {
                const nb::gil_scoped_acquire acquire;
                interrupted = PyErr_CheckSignals() != 0;
                last = Clock::now();
            }
            return interrupted || (abort && abort->wanted);
        };
        rows = tower.encode(picture.data(), width, height, max_side, stop);
    } catch (const Cancelled &) {
        if (interrupted) {
            throw nb::python_error();
        }
        throw;
    }
    const size_t n_embd = tower.hparams().n_embd_text;
    return array(std::move(rows), {rows.size() / n_embd, n_embd});
}

Floats pixels(const Tower & tower, const Picture & picture, int max_side) {
    const int height = static_cast<int>(picture.shape(0)), width = static_cast<int>(picture.shape(1));
    const CellGrid grid = cell_grid(width, height, max_side);
    return array(preprocess(picture.data(), width, height, grid, tower.hparams()),
                 {3, size_t(grid.rows) * CELL_PIXELS, size_t(grid.columns) * CELL_PIXELS});
}

}  // namespace

void bind_vision(nb::module_ & m) {
    nb::exception<Cancelled>(m, "VisionCancelledError", PyExc_RuntimeError).attr("__doc__") =
        "The encoding of an image was cancelled.";
    m.attr("VISION_CELL_PIXELS") = static_cast<int>(CELL_PIXELS);
    m.def(
        "vision_grid",
        [](int width, int height, int max_side) {
            const CellGrid grid = cell_grid(width, height, max_side);
            return std::tuple(grid.columns, grid.rows);
        },
        "width"_a, "height"_a, "max_side"_a,
        "Columns and rows of cells of a picture whose longest side keeps `max_side` pixels.");
    nb::class_<Abort>(m, "VisionAbort", "Ends an encoding from another thread.")
        .def(nb::init<>())
        .def("set", [](Abort & abort) { abort.wanted = true; }, "End it, within a node of the graph on the CPU.");
    nb::class_<Tower>(m, "Tower", "The vision tower of an mmproj file (`native/vision/`).")
        .def(
            "__init__",
            [](Tower * self, const std::string & path, int n_threads, const std::string & device, bool exact,
               bool no_alloc) {
                const GilReleased release;
                new (self) Tower(path, {n_threads, device, exact, no_alloc});
            },
            "path"_a, nb::kw_only(), "n_threads"_a = 0, "device"_a = "", "exact"_a = true, "no_alloc"_a = false,
            "`device`: a name of `devices`, \"\": the CPU. `exact`: keys and values of the CPU's attention in F32, "
            "else F16 as on devices. `no_alloc`: only to plan the memory.\n\n"
            "Raises RuntimeError that names key or tensor for a file that is damaged or none.")
        .def_prop_ro(
            "n_embd", [](const Tower & tower) { return tower.hparams().n_embd_text; }, "Width of a row.")
        .def_prop_ro("largest_side", &Tower::largest_side, "Pixels, a multiple of 28.")
        .def_prop_ro("weight_bytes", &Tower::weight_bytes, "Bytes of the weights.")
        .def_prop_ro("device", &Tower::device_name, "\"CPU\" or the device's name.")
        .def("planned_compute_bytes", &Tower::planned_compute_bytes, "max_side"_a,
             "Bytes of the buffer for a picture of the largest size.")
        .def("pixels", &pixels, "picture"_a, "max_side"_a,
             "Return what the tower reads of uint8 RGB pixels [height, width, 3]: [3, rows * 28, columns * 28].")
        .def("encode", &encode, "picture"_a, "max_side"_a, "abort"_a.none() = nb::none(),
             "Rows [cells, n_embd] of uint8 RGB pixels [height, width, 3]. The GIL is released; one at a time.\n\n"
             "Raises VisionCancelledError, ValueError for sides out of range, RuntimeError where memory is missing, "
             "KeyboardInterrupt.");
}
