#pragma once

#include "llama.h"

namespace trimode {

// libllama's default parameters of a model, but for ggml's AMX kernels, which no weights may use: compiled by GCC
// before 12.4 or 13.3 they load a tile configuration of which most was optimized away (GCC bug 114098) and the process
// dies. Where ggml has them, repacked weights are off as well, since libllama has one switch for both.
llama_model_params default_model_params();

}  // namespace trimode
