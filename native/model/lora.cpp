#include "model/lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "model/gguf_file.h"
#include "model/placement.h"

namespace trimode {

namespace {

void expect(const GgufFile & file, const char * key, const std::string & wanted) {
    const std::string found = file.str(key).value_or("");
    if (found != wanted) {
        throw std::runtime_error(file.path() + ": " + key + " is \"" + found + "\", expected \"" + wanted +
                                 "\" (a drafter LoRA made by trimode-convert)");
    }
}

const ggml_tensor * find(const GgufFile & file, const std::string & name, int64_t n_in, int64_t n_out) {
    const ggml_tensor * t = ggml_get_tensor(file.tensors(), name.c_str());
    if (!t) {
        throw std::runtime_error(file.path() + ": tensor " + name + " is missing");
    }
    if (t->ne[0] != n_in || t->ne[1] != n_out) {
        throw std::runtime_error(file.path() + ": tensor " + name + " has shape [" + std::to_string(t->ne[0]) + ", " +
                                 std::to_string(t->ne[1]) + "], this model needs [" + std::to_string(n_in) + ", " +
                                 std::to_string(n_out) + "]");
    }
    return t;
}

bool all_finite(const ggml_tensor & t, const std::vector<char> & data) {
    std::vector<float> values(ggml_nelements(&t));
    if (t.type == GGML_TYPE_F32) {
        std::memcpy(values.data(), data.data(), data.size());
    } else if (const auto to_float = ggml_get_type_traits(t.type)->to_float) {
        to_float(data.data(), values.data(), ggml_nelements(&t));
    }
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

void read_data(std::ifstream & stream, const GgufFile & file, ggml_tensor * t) {
    const int64_t id = gguf_find_tensor(file.raw(), ggml_get_name(t));
    std::vector<char> data(ggml_nbytes(t));
    stream.seekg(
        static_cast<std::streamoff>(gguf_get_data_offset(file.raw()) + gguf_get_tensor_offset(file.raw(), id)));
    if (!stream.read(data.data(), static_cast<std::streamsize>(data.size()))) {
        throw std::runtime_error(file.path() + ": truncated in tensor " + ggml_get_name(t));
    }
    if (!all_finite(*t, data)) {
        throw std::runtime_error(file.path() + ": tensor " + ggml_get_name(t) +
                                 " holds NaN or infinity: the adapter is damaged; download or convert it again");
    }
    ggml_backend_tensor_set(t, data.data(), 0, data.size());
}

}  // namespace

DrafterLora::DrafterLora(const std::string & path, const Hparams & h, const std::vector<Layer> & layers,
                         bool no_alloc) {
    const GgufFile file(path);
    expect(file, "general.type", "adapter");
    expect(file, "adapter.type", "lora");
    const int64_t n_in = int64_t(h.n_head) * h.head_dim;

    ctx_.reset(ggml_init({ggml_tensor_overhead() * 2 * size_t(h.n_layer), nullptr, /*no_alloc=*/true}));
    Placement placement(no_alloc);
    for (int i = 0; i < h.n_layer; ++i) {
        const std::string name = "blk." + std::to_string(i) + ".attn_output.weight.lora_";
        if (i == 0) {
            const ggml_tensor * first = ggml_get_tensor(file.tensors(), (name + "a").c_str());
            rank_ = first ? static_cast<int>(first->ne[1]) : 0;
        }
        const auto add = [&](const char * part, int64_t ne0, int64_t ne1) {
            const ggml_tensor * source = find(file, name + part, ne0, ne1);
            ggml_tensor * t = ggml_new_tensor_2d(ctx_.get(), source->type, ne0, ne1);
            ggml_set_name(t, source->name);
            placement.add(t, layers[i].wo);
            return t;
        };
        deltas_.push_back({add("a", n_in, rank_), add("b", rank_, h.n_embd)});
    }
    if (gguf_get_n_tensors(file.raw()) != int64_t(2) * h.n_layer) {
        throw std::runtime_error(file.path() + ": holds " + std::to_string(gguf_get_n_tensors(file.raw())) +
                                 " tensors, expected " + std::to_string(2 * h.n_layer) +
                                 " (attn_output only, every layer)");
    }
    scale_ = static_cast<float>(file.require("adapter.lora.alpha")) / static_cast<float>(rank_);
    buffers_ = placement.allocate();
    if (no_alloc) {
        return;
    }
    std::ifstream stream(path, std::ios::binary);
    for (const Delta & delta : deltas_) {
        read_data(stream, file, delta.a);
        read_data(stream, file, delta.b);
    }
}

}  // namespace trimode
