// ggml's backends that are libraries of their own: those beside libggml are loaded, no others.
#pragma once

namespace trimode {

// Loads them, the CPU's kernels for this processor among them; once, however often it is called. ggml_backend_load_all
// would look in the working directory as well, where a folder with a stranger's model may hold a library of that name.
// GGML_BACKEND_PATH names another one, as everywhere with llama.cpp. Throws std::runtime_error where libggml is no
// file.
void load_backends();

}  // namespace trimode
