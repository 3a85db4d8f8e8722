#include "model/gguf_file.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace trimode {

namespace {

void check_magic(const std::string & path) {
    std::FILE * file = std::fopen(path.c_str(), "rb");
    if (!file) {
        throw std::runtime_error(path + ": cannot be opened: " + std::strerror(errno));
    }
    char magic[4] = {};
    const bool read = std::fread(magic, 1, sizeof magic, file) == sizeof magic;
    std::fclose(file);
    if (!read || std::memcmp(magic, "GGUF", sizeof magic) != 0) {
        throw std::runtime_error(path + ": not a GGUF file (it does not start with \"GGUF\")");
    }
}

}  // namespace

GgufFile::GgufFile(const std::string & path) : path_(path) {
    check_magic(path);
    ggml_context * tensors = nullptr;
    gguf_.reset(gguf_init_from_file(path.c_str(), {/*no_alloc=*/true, &tensors}));
    tensors_.reset(tensors);
    if (!gguf_) {
        throw std::runtime_error(path + ": damaged GGUF: its header cannot be read (truncated download?)");
    }
}

std::optional<std::string> GgufFile::str(const std::string & key) const {
    const int64_t id = gguf_find_key(gguf_.get(), key.c_str());
    if (id < 0 || gguf_get_kv_type(gguf_.get(), id) != GGUF_TYPE_STRING) {
        return std::nullopt;
    }
    return gguf_get_val_str(gguf_.get(), id);
}

std::optional<double> GgufFile::number(const std::string & key) const {
    const gguf_context * g = gguf_.get();
    const int64_t id = gguf_find_key(g, key.c_str());
    if (id < 0) {
        return std::nullopt;
    }
    switch (gguf_get_kv_type(g, id)) {
        case GGUF_TYPE_UINT8:
            return gguf_get_val_u8(g, id);
        case GGUF_TYPE_INT8:
            return gguf_get_val_i8(g, id);
        case GGUF_TYPE_UINT16:
            return gguf_get_val_u16(g, id);
        case GGUF_TYPE_INT16:
            return gguf_get_val_i16(g, id);
        case GGUF_TYPE_UINT32:
            return gguf_get_val_u32(g, id);
        case GGUF_TYPE_INT32:
            return gguf_get_val_i32(g, id);
        case GGUF_TYPE_FLOAT32:
            return gguf_get_val_f32(g, id);
        case GGUF_TYPE_UINT64:
            return static_cast<double>(gguf_get_val_u64(g, id));
        case GGUF_TYPE_INT64:
            return static_cast<double>(gguf_get_val_i64(g, id));
        case GGUF_TYPE_FLOAT64:
            return gguf_get_val_f64(g, id);
        case GGUF_TYPE_BOOL:
            return gguf_get_val_bool(g, id);
        default:
            return std::nullopt;
    }
}

std::optional<int> GgufFile::integer(const std::string & key) const {
    const std::optional<double> value = number(key);
    if (!value) {
        return std::nullopt;
    }
    using Int = std::numeric_limits<int>;
    if (!(*value >= Int::min() && *value <= Int::max()) || *value != std::floor(*value)) {
        std::ostringstream text;
        text << *value;
        throw std::runtime_error(path_ + ": metadata key " + key + " is " + text.str() +
                                 "; it must be a whole number of 32 bits: get the file again");
    }
    return static_cast<int>(*value);
}

double GgufFile::require(const std::string & key) const {
    if (const auto value = number(key)) {
        return *value;
    }
    throw std::runtime_error(path_ + ": metadata key " + key +
                             " is missing; convert the checkpoint with trimode-convert");
}

int GgufFile::require_integer(const std::string & key) const {
    require(key);  // throws where there is none
    return integer(key).value_or(0);
}

}  // namespace trimode
