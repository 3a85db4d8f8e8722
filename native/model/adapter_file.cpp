#include "model/adapter_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace trimode {

namespace {

const std::string SUFFIX_A = ".lora_a", SUFFIX_B = ".lora_b";

bool ends_with(const std::string & text, const std::string & end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::string shape_of(const ggml_tensor * t) {
    return "[" + std::to_string(t->ne[0]) + ", " + std::to_string(t->ne[1]) + "]";
}

}  // namespace

AdapterFile::AdapterFile(const std::string & path) : file_(path), stream_(path, std::ios::binary) {
    for (const auto & [key, wanted] : {std::pair{"general.type", "adapter"}, {"adapter.type", "lora"}}) {
        if (const std::string found = file_.str(key).value_or(""); found != wanted) {
            throw std::runtime_error(path + ": " + key + " is \"" + found + "\", expected \"" + wanted +
                                     "\": not a LoRA adapter (trimode-convert --lora makes one)");
        }
    }
    alpha_ = file_.require("adapter.lora.alpha");
}

std::vector<std::string> AdapterFile::weights() const {
    std::vector<std::string> found;
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.raw()); ++i) {
        const std::string name = gguf_get_tensor_name(file_.raw(), i);
        const std::string weight = name.substr(0, name.size() - std::min(name.size(), SUFFIX_A.size()));
        if (ends_with(name, SUFFIX_A)) {
            found.push_back(weight);
        } else if (!ends_with(name, SUFFIX_B)) {
            throw std::runtime_error(file_.path() + ": tensor " + name + " is no part of a LoRA");
        } else {
            find(weight + SUFFIX_A);  // its partner
        }
    }
    return found;
}

const ggml_tensor * AdapterFile::find(const std::string & name) const {
    const ggml_tensor * t = ggml_get_tensor(file_.tensors(), name.c_str());
    if (!t) {
        throw std::runtime_error(file_.path() + ": tensor " + name + " is missing");
    }
    return t;
}

int AdapterFile::rank(const std::string & weight, int64_t n_in, int64_t n_out) const {
    const ggml_tensor * a = find(weight + SUFFIX_A);
    const ggml_tensor * b = find(weight + SUFFIX_B);
    if (a->ne[0] != n_in || b->ne[1] != n_out || a->ne[1] != b->ne[0]) {
        throw std::runtime_error(file_.path() + ": " + weight + ".lora_a has shape " + shape_of(a) + ", lora_b " +
                                 shape_of(b) + "; the weight has [" + std::to_string(n_in) + ", " +
                                 std::to_string(n_out) + "]: the adapter belongs to another model");
    }
    return static_cast<int>(b->ne[0]);
}

std::vector<float> AdapterFile::read(const ggml_tensor * t) {
    const int64_t id = gguf_find_tensor(file_.raw(), ggml_get_name(t));
    std::vector<char> data(ggml_nbytes(t));
    stream_.seekg(
        static_cast<std::streamoff>(gguf_get_data_offset(file_.raw()) + gguf_get_tensor_offset(file_.raw(), id)));
    if (!stream_.read(data.data(), static_cast<std::streamsize>(data.size()))) {
        throw std::runtime_error(file_.path() + ": truncated in tensor " + ggml_get_name(t));
    }
    std::vector<float> values(ggml_nelements(t));
    if (t->type == GGML_TYPE_F32) {
        std::memcpy(values.data(), data.data(), data.size());
    } else if (const auto to_float = ggml_get_type_traits(t->type)->to_float) {
        to_float(data.data(), values.data(), ggml_nelements(t));
    } else {
        throw std::runtime_error(file_.path() + ": tensor " + ggml_get_name(t) + " has type " +
                                 ggml_type_name(t->type) + ", which no adapter has");
    }
    if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
        throw std::runtime_error(file_.path() + ": tensor " + ggml_get_name(t) +
                                 " holds NaN or infinity: the adapter is damaged; download or convert it again");
    }
    return values;
}

std::vector<float> AdapterFile::a(const std::string & weight, int padded) {
    const ggml_tensor * t = find(weight + SUFFIX_A);
    std::vector<float> values = read(t);
    values.resize(t->ne[0] * padded, 0.0f);
    return values;
}

std::vector<float> AdapterFile::b(const std::string & weight, int padded) {
    const ggml_tensor * t = find(weight + SUFFIX_B);
    const int64_t rank = t->ne[0];
    // As llama.cpp: 0 stands for the rank.
    const auto scale = static_cast<float>(alpha_ == 0.0 ? 1.0 : alpha_ / static_cast<double>(rank));
    const std::vector<float> values = read(t);
    std::vector<float> rows(t->ne[1] * padded, 0.0f);
    for (int64_t row = 0; row < t->ne[1]; ++row) {
        for (int64_t i = 0; i < rank; ++i) {
            rows[row * padded + i] = values[row * rank + i] * scale;
        }
    }
    return rows;
}

}  // namespace trimode
