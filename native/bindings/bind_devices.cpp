// What ggml found on this machine: backends with their features, devices with their memory.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

#include "ggml-backend.h"

namespace nb = nanobind;

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
    ggml_backend_load_all();
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
    ggml_backend_load_all();
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

}  // namespace

void bind_devices(nb::module_ & m) {
    m.def("devices", &devices, nb::sig("def devices() -> list[Device]"), "List the devices that ggml found.");
    m.def("backends", &backends, nb::sig("def backends() -> list[Backend]"),
          "List the backends that libllama was built with.");
}
