#include "util/backends.h"

#include <dlfcn.h>

#include <mutex>
#include <string>

#include "ggml-backend.h"

namespace trimode {

void load_backends() {
    static std::once_flag once;
    std::call_once(once, [] {
        Dl_info libggml = {};
        dladdr(reinterpret_cast<void *>(&ggml_backend_load_all_from_path), &libggml);
        const std::string path = libggml.dli_fname ? libggml.dli_fname : "";
        ggml_backend_load_all_from_path(path.substr(0, path.rfind('/') + 1).c_str());
    });
}

}  // namespace trimode
