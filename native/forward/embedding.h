// Rows of the token embedding, which stays in main memory when the layers are on a device.
#pragma once

#include "ggml.h"

namespace trimode {

// True when rows can be read by the CPU: the table lies in main memory in a type that can be converted row by row.
bool can_embed(const ggml_tensor * table);

// Row `token` of the table as floats, [table->ne[0]].
void embed(const ggml_tensor * table, int32_t token, float * out);

}  // namespace trimode
