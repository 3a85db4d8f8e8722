#include "vision/tower.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <thread>

#include "util/backends.h"
#include "util/out_of_memory.h"

namespace trimode {

namespace {

constexpr int MAX_INPUT_SIDE = 1 << 20;

void * const NOWHERE = reinterpret_cast<void *>(uintptr_t(1) << 12);  // the data of weights that are only planned

struct Stop {
    const std::function<bool()> & wanted;
    bool stopped = false;
    static bool asked(void * data) {
        auto * stop = static_cast<Stop *>(data);
        stop->stopped = stop->stopped || stop->wanted();
        return stop->stopped;
    }
};

// A function that the CPU backend exports by name: it is a library of its own.
template <typename Function>
Function cpu_function(ggml_backend_t backend, const char * name) {
    return reinterpret_cast<Function>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(ggml_backend_get_device(backend)), name));
}

size_t aligned(ggml_backend_buffer_type_t type, const ggml_tensor * tensor) {
    return GGML_PAD(ggml_backend_buft_get_alloc_size(type, tensor), ggml_backend_buft_get_alignment(type));
}

}  // namespace

Tower::Tower(const std::string & path, const TowerOptions & options) : file_(path), options_(options) {
    load_backends();
    choose_backend();
    load_weights();
    allocator_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_.get())));
}

// The device, if it has a kernel for every operation; else the CPU.
void Tower::choose_backend() {
    if (!options_.device.empty()) {
        ggml_backend_dev_t device = ggml_backend_dev_by_name(options_.device.c_str());
        if (!device) {
            throw std::invalid_argument("device " + options_.device +
                                        " is not there; pytrimode doctor lists those that are");
        }
        on_cpu_ = ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
        backend_.reset(ggml_backend_dev_init(device, nullptr));
        if (backend_ && supports_all()) {
            return;
        }
    }
    on_cpu_ = true;
    backend_.reset(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    if (!backend_) {
        throw std::runtime_error("the CPU backend could not be initialized");
    }
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    cpu_function<ggml_backend_set_n_threads_t>(backend_.get(), "ggml_backend_set_n_threads")(
        backend_.get(), options_.n_threads > 0 ? options_.n_threads : std::max(cores, 1));
}

bool Tower::supports_all() const {
    const TowerGraph graph = build_tower_graph(hparams(), file_.weights(), CELL_PATCHES * CELL_PATCHES, kv_type());
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph); ++i) {
        if (!ggml_backend_supports_op(backend_.get(), ggml_graph_node(graph.graph, i))) {
            return false;
        }
    }
    return true;
}

void Tower::load_weights() {
    ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(backend_.get());
    for (ggml_tensor * t = ggml_get_first_tensor(file_.tensors()); t; t = ggml_get_next_tensor(file_.tensors(), t)) {
        weight_bytes_ += aligned(type, t);
        if (options_.no_alloc) {
            t->data = NOWHERE;
        }
    }
    if (options_.no_alloc) {
        return;
    }
    buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(file_.tensors(), type));
    if (!buffer_) {
        throw OutOfMemory("no room for the " + mebibytes(weight_bytes_) + " of the vision tower",
                          "leave it out (--no-mmproj)");
    }
    ggml_backend_buffer_set_usage(buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    file_.read_data();
}

size_t Tower::planned_compute_bytes(int max_side) const {
    const int cells = max_side / CELL_PIXELS;
    const TowerGraph graph =
        build_tower_graph(hparams(), file_.weights(), cells * cells * CELL_PATCHES * CELL_PATCHES, kv_type());
    const ggml_gallocr_ptr allocator(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_.get())));
    size_t bytes = 0;
    ggml_gallocr_reserve_n_size(allocator.get(), graph.graph, nullptr, nullptr, &bytes);
    return bytes;
}

std::string Tower::device_name() const {
    return on_cpu_ ? "CPU" : ggml_backend_dev_name(ggml_backend_get_device(backend_.get()));
}

void Tower::check_sides(int width, int height, int max_side) const {
    if (max_side < CELL_PIXELS || max_side > largest_side() || max_side % CELL_PIXELS != 0) {
        throw std::invalid_argument("max_side " + std::to_string(max_side) + ": must be a multiple of " +
                                    std::to_string(CELL_PIXELS) + " from " + std::to_string(CELL_PIXELS) + " to " +
                                    std::to_string(largest_side()));
    }
    if (width < 1 || height < 1 || width > MAX_INPUT_SIDE || height > MAX_INPUT_SIDE) {
        throw std::invalid_argument("a picture of " + std::to_string(width) + " x " + std::to_string(height) +
                                    " pixels: sides must be from 1 to " + std::to_string(MAX_INPUT_SIDE));
    }
}

std::vector<float> Tower::encode(const uint8_t * rgb, int width, int height, int max_side,
                                 const std::function<bool()> & stop) {
    check_sides(width, height, max_side);
    const CellGrid grid = cell_grid(width, height, max_side);
    const std::vector<float> patches = patches_by_cell(preprocess(rgb, width, height, grid, hparams()), grid);
    const std::vector<int32_t> positions = patch_positions(grid);
    std::vector<float> rows(size_t(grid.cells()) * hparams().n_embd_text);

    const std::lock_guard<std::mutex> lock(mutex_);
    if (stop()) {
        throw Cancelled();
    }
    const TowerGraph graph =
        build_tower_graph(hparams(), file_.weights(), static_cast<int>(positions.size() / 2), kv_type());
    if (!ggml_gallocr_alloc_graph(allocator_.get(), graph.graph)) {
        throw OutOfMemory("no room to encode a picture of " + std::to_string(grid.cells()) + " cells",
                          "give a smaller --image-max-side");
    }
    ggml_backend_tensor_set(graph.patches, patches.data(), 0, ggml_nbytes(graph.patches));
    ggml_backend_tensor_set(graph.positions, positions.data(), 0, ggml_nbytes(graph.positions));
    compute(graph, stop);
    ggml_backend_tensor_get(graph.rows, rows.data(), 0, ggml_nbytes(graph.rows));
    if (!std::all_of(rows.begin(), rows.end(), [](float value) { return std::isfinite(value); })) {
        throw std::runtime_error("the vision tower gave values that are not finite: its file is damaged, get it again");
    }
    return rows;
}

void Tower::compute(const TowerGraph & graph, const std::function<bool()> & stop) {
    Stop asked{stop};
    const auto listen = [&](ggml_abort_callback callback, void * data) {
        if (on_cpu_) {
            cpu_function<ggml_backend_set_abort_callback_t>(backend_.get(), "ggml_backend_set_abort_callback")(
                backend_.get(), callback, data);
        }
    };
    listen(Stop::asked, &asked);
    const ggml_status status = ggml_backend_graph_compute(backend_.get(), graph.graph);
    listen(nullptr, nullptr);
    if (asked.stopped) {
        throw Cancelled();
    }
    if (status != GGML_STATUS_SUCCESS) {
        throw std::runtime_error(std::string("the vision tower failed: ") + ggml_status_to_string(status));
    }
}

}  // namespace trimode
