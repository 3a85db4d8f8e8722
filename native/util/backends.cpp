#include "util/backends.h"

#include <dlfcn.h>

#include <mutex>
#include <stdexcept>
#include <string>

#include "ggml-backend.h"

namespace trimode {

void load_backends() {
    static std::once_flag once;
    std::call_once(once, [] {
        Dl_info libggml = {};
        if (!dladdr(reinterpret_cast<void *>(&ggml_backend_load_all_from_path), &libggml) || !libggml.dli_fname) {
            throw std::runtime_error("the folder of libggml cannot be found");
        }
        const std::string path = libggml.dli_fname;
        ggml_backend_load_all_from_path(path.substr(0, path.rfind('/') + 1).c_str());
    });
}

}  // namespace trimode
