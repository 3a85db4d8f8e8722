// The vision tower as Python sees it.
#include <atomic>
#include <chrono>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "engine/engine.h"
#include "vision/tower.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

constexpr auto SIGNAL_INTERVAL = std::chrono::milliseconds(20);

using Picture = nb::ndarray<const uint8_t, nb::shape<-1, -1, 3>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
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
        const nb::gil_scoped_release release;
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

nb::list image_runs(Engine & engine, const std::vector<llama_token> & tokens) {
    nb::list runs;
    for (const ImageRows::Run & run : engine.images().rows().runs(tokens)) {
        runs.append(nb::make_tuple(run.begin, run.n, run.key, run.first, run.n_rows));
    }
    return runs;
}

void bind_images(nb::module_ & m) {
    auto image = nb::borrow<nb::class_<ImageHandle>>(m.attr("Image"));
    image.def_prop_ro("key", [](const ImageHandle & image) { return image.ids->key; });
    image.def_prop_ro("first", [](const ImageHandle & image) { return image.ids->first; });
    image.def_prop_ro("n_rows", [](const ImageHandle & image) { return image.ids->n; });
    image.def_prop_ro(
        "n_bytes", [](const ImageHandle & image) { return image.vectors ? image.vectors->size() * sizeof(float) : 0; });
    auto engine = nb::borrow<nb::class_<Engine>>(m.attr("Engine"));
    engine.def(
        "add_image",
        [](Engine & engine, const std::string & key, const Rows & rows) {
            const nb::gil_scoped_release release;
            return engine.images().add(key, ImageVectors(rows.data(), rows.data() + rows.size()));
        },
        "key"_a, "rows"_a);
    engine.def(
        "add_image",
        [](Engine & engine, const std::string & key, int n_rows) { return engine.images().add(key, n_rows); }, "key"_a,
        "n_rows"_a, nb::call_guard<nb::gil_scoped_release>());
    engine.def("image_runs", &image_runs, "tokens"_a);
}

}  // namespace

void bind_vision(nb::module_ & m) {
    nb::exception<Cancelled>(m, "VisionCancelledError", PyExc_RuntimeError);
    m.attr("VISION_CELL_PIXELS") = static_cast<int>(CELL_PIXELS);
    m.def(
        "vision_grid",
        [](int width, int height, int max_side) {
            const CellGrid grid = cell_grid(width, height, max_side);
            return std::tuple(grid.columns, grid.rows);
        },
        "width"_a, "height"_a, "max_side"_a);
    bind_images(m);
    nb::class_<Abort>(m, "VisionAbort").def(nb::init<>()).def("set", [](Abort & abort) { abort.wanted = true; });
    nb::class_<Tower>(m, "Tower")
        .def(
            "__init__",
            [](Tower * self, const std::string & path, int n_threads, const std::string & device, bool exact,
               bool no_alloc) {
                const nb::gil_scoped_release release;
                new (self) Tower(path, {n_threads, device, exact, no_alloc});
            },
            "path"_a, nb::kw_only(), "n_threads"_a = 0, "device"_a = "", "exact"_a = true, "no_alloc"_a = false)
        .def_prop_ro("n_embd", [](const Tower & tower) { return tower.hparams().n_embd_text; })
        .def_prop_ro("largest_side", &Tower::largest_side)
        .def_prop_ro("weight_bytes", &Tower::weight_bytes)
        .def_prop_ro("compute_bytes", &Tower::compute_bytes)
        .def_prop_ro("device", &Tower::device_name)
        .def("planned_compute_bytes", &Tower::planned_compute_bytes, "max_side"_a)
        .def("pixels", &pixels, "picture"_a, "max_side"_a)
        .def("encode", &encode, "picture"_a, "max_side"_a, "abort"_a.none() = nb::none());
}
