#include "forward/embedding.h"

#include <cstring>

#include "ggml-backend.h"

namespace trimode {

bool can_embed(const ggml_tensor * table) {
    return table->buffer && ggml_backend_buffer_is_host(table->buffer) &&
           (table->type == GGML_TYPE_F32 || ggml_get_type_traits(table->type)->to_float != nullptr);
}

void embed(const ggml_tensor * table, int32_t token, float * out) {
    const char * row = static_cast<const char *>(table->data) + size_t(token) * table->nb[1];
    if (table->type == GGML_TYPE_F32) {
        std::memcpy(out, row, size_t(table->ne[0]) * sizeof(float));
        return;
    }
    ggml_get_type_traits(table->type)->to_float(row, out, table->ne[0]);
}

}  // namespace trimode
