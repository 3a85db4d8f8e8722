// What ggml found on this machine: backends with their features, devices with their memory.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <mutex>
#include <set>
#include <stdexcept>
#include <string>

#include "bindings/gil.h"
#include "ggml-backend.h"
#include "util/backends.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

const char * type_name(enum ggml_backend_dev_type type) {
    switch (type) {
        case GGML_BACKEND_DEVICE_TYPE_CPU:
            return "cpu";
        case GGML_BACKEND_DEVICE_TYPE_GPU:
            return "gpu";
        case GGML_BACKEND_DEVICE_TYPE_IGPU:
            return "igpu";
        case GGML_BACKEND_DEVICE_TYPE_ACCEL:
            return "accel";
        default:
            return "other";
    }
}

nb::list devices() {
    trimode::load_backends();
    nb::list found;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        nb::dict entry;
        entry["name"] = ggml_backend_dev_name(device);
        entry["description"] = ggml_backend_dev_description(device);
        entry["backend"] = ggml_backend_reg_name(ggml_backend_dev_backend_reg(device));
        entry["type"] = type_name(ggml_backend_dev_type(device));
        entry["memory_free"] = free;
        entry["memory_total"] = total;
        found.append(entry);
    }
    return found;
}

nb::list backends() {
    trimode::load_backends();
    nb::list found;
    for (size_t i = 0; i < ggml_backend_reg_count(); ++i) {
        ggml_backend_reg_t reg = ggml_backend_reg_get(i);
        nb::dict features;
        auto * get = reinterpret_cast<ggml_backend_get_features_t>(
            ggml_backend_reg_get_proc_address(reg, "ggml_backend_get_features"));
        for (const ggml_backend_feature * f = get ? get(reg) : nullptr; f && f->name; ++f) {
            features[f->name] = f->value;
        }
        nb::dict entry;
        entry["name"] = ggml_backend_reg_name(reg);
        entry["devices"] = ggml_backend_reg_dev_count(reg);
        entry["features"] = features;
        found.append(entry);
    }
    return found;
}

// A function of ggml's RPC backend.
template <typename Function>
Function rpc_function(const char * name) {
    trimode::load_backends();
    ggml_backend_reg_t reg = ggml_backend_reg_by_name("RPC");
    auto found = reg ? reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(reg, name)) : nullptr;
    if (!found) {
        throw std::runtime_error(
            "this llama-cpp-python was built without ggml's RPC backend: install it anew with "
            "CMAKE_ARGS=-DGGML_RPC=on (docs/deployment.md)");
    }
    return found;
}

void add_rpc_server(const std::string & endpoint) {
    static std::mutex mutex;
    static std::set<std::string> known;
    const auto add = rpc_function<ggml_backend_reg_t (*)(const char *)>("ggml_backend_rpc_add_server");
    const std::lock_guard<std::mutex> lock(mutex);
    if (known.count(endpoint)) {
        return;
    }
    ggml_backend_reg_t reg = add(endpoint.c_str());
    if (!reg) {
        throw std::runtime_error(endpoint + ": no server of ggml's RPC backend answers there");
    }
    ggml_backend_register(reg);
    known.insert(endpoint);
}

void run_rpc_server(const std::string & endpoint, const std::vector<std::string> & names, size_t n_threads) {
    const auto start = rpc_function<void (*)(const char *, const char *, size_t, size_t, ggml_backend_dev_t *)>(
        "ggml_backend_rpc_start_server");
    std::vector<ggml_backend_dev_t> devices;
    for (const std::string & name : names) {
        devices.push_back(ggml_backend_dev_by_name(name.c_str()));
        if (!devices.back()) {
            throw std::invalid_argument("device " + name + " is not there; pytrimode doctor lists those that are");
        }
    }
    start(endpoint.c_str(), nullptr, n_threads, devices.size(), devices.data());
}

}  // namespace

void bind_devices(nb::module_ & m) {
    m.def("devices", &devices, nb::sig("def devices() -> list[Device]"), "List the devices that ggml found.");
    m.def("backends", &backends, nb::sig("def backends() -> list[Backend]"),
          "List the backends that libllama was built with.");
    m.def("add_rpc_server", &add_rpc_server, nb::call_guard<GilReleased>(), "endpoint"_a,
          "Add the devices of a server of ggml's RPC backend, HOST:PORT, to those of this process; once. Raises "
          "RuntimeError where no server answers, or this build lacks the backend.");
    m.def("run_rpc_server", &run_rpc_server, "endpoint"_a, "devices"_a, "n_threads"_a,
          "Give devices of this machine, by ggml's names, to whoever connects to HOST:PORT. Does not return.");
}
