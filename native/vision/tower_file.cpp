#include "vision/tower_file.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace trimode {

namespace {

constexpr int MAX_WIDTH = 1 << 18;
constexpr int MAX_LAYERS = 512;
constexpr int MAX_SIDE = 1 << 16;

std::string shape_string(const int64_t * ne) {
    int n_dims = GGML_MAX_DIMS;
    while (n_dims > 1 && ne[n_dims - 1] == 1) {
        --n_dims;
    }
    std::string text = "[";
    for (int i = 0; i < n_dims; ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(ne[i]);
    }
    return text + "]";
}

// A whole number without its decimals, anything else as it is.
std::string number_string(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", value);
    return text;
}

bool is_matrix_type(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || type == GGML_TYPE_Q8_0;
}

}  // namespace

TowerFile::TowerFile(const std::string & path) : file_(path) {
    const auto fail = [&](const std::string & what) { throw std::runtime_error(path + ": " + what); };
    const std::string architecture = file_.str("general.architecture").value_or("none");
    if (architecture != "clip") {
        fail("general.architecture: expected clip, found " + architecture + ": not a vision tower (mmproj file)");
    }
    if (file_.number("clip.has_vision_encoder").value_or(0.0) == 0.0) {
        fail("clip.has_vision_encoder: expected true: the file has no vision tower");
    }
    const std::string type = file_.str("clip.projector_type").value_or("none");
    if (type != "pixtral") {
        fail("clip.projector_type: expected pixtral, found " + type + ": the tower of another model");
    }
    read_hparams();
    read_activation();
    read_colours();
    take_weights();
    expect_nothing_left();
    check_data_range();
}

int TowerFile::positive(const char * key, int largest) const {
    const double value = file_.require(key);
    if (!(value >= 1.0 && value <= largest) || value != std::floor(value)) {
        throw std::runtime_error(file_.path() + ": " + key + ": expected a whole number from 1 to " +
                                 std::to_string(largest) + ", found " + number_string(value));
    }
    return static_cast<int>(value);
}

void TowerFile::check_value(const char * key, double expected, const char * why) const {
    const double value = file_.require(key);
    if (value != expected) {
        throw std::runtime_error(file_.path() + ": " + key + ": expected " + number_string(expected) + ", found " +
                                 number_string(value) + ": " + why);
    }
}

void TowerFile::read_hparams() {
    TowerHparams & h = hparams_;
    check_value("clip.vision.patch_size", PATCH_PIXELS, "the preprocessing cuts cells of 28 pixels");
    check_value("clip.vision.spatial_merge_size", CELL_PATCHES, "the preprocessing cuts cells of 28 pixels");
    h.n_embd = positive("clip.vision.embedding_length", MAX_WIDTH);
    h.n_ff = positive("clip.vision.feed_forward_length", MAX_WIDTH);
    h.n_layer = positive("clip.vision.block_count", MAX_LAYERS);
    h.n_head = positive("clip.vision.attention.head_count", MAX_WIDTH);
    h.image_size = positive("clip.vision.image_size", MAX_SIDE);
    h.n_embd_text = positive("clip.vision.projection_dim", MAX_WIDTH);
    h.eps = static_cast<float>(file_.require("clip.vision.attention.layer_norm_epsilon"));
    if (!(h.eps > 0.0f && h.eps < 1.0f)) {
        throw std::runtime_error(file_.path() +
                                 ": clip.vision.attention.layer_norm_epsilon: expected a number between "
                                 "0 and 1, found " +
                                 number_string(h.eps));
    }
    // Half of a head turns with the row of a patch, half with its column, each in pairs.
    if (h.n_embd % (4 * h.n_head) != 0) {
        throw std::runtime_error(file_.path() + ": clip.vision.attention.head_count: " + std::to_string(h.n_head) +
                                 " heads do not divide a width of " + std::to_string(h.n_embd) +
                                 " into multiples of 4");
    }
    if (h.image_size < CELL_PIXELS) {
        throw std::runtime_error(file_.path() + ": clip.vision.image_size: expected at least 28, found " +
                                 std::to_string(h.image_size));
    }
}

void TowerFile::read_activation() {
    const bool silu = file_.number("clip.use_silu").value_or(0.0) != 0.0;
    const bool gelu = file_.number("clip.use_gelu").value_or(0.0) != 0.0;
    if (silu == gelu) {
        throw std::runtime_error(file_.path() + ": expected one of clip.use_silu and clip.use_gelu to be true, found " +
                                 (silu ? "both" : "none"));
    }
    hparams_.silu = silu;
}

void TowerFile::read_colours() {
    for (const auto & [key, values] : {std::pair<const char *, float *>{"clip.vision.image_mean", hparams_.mean},
                                       {"clip.vision.image_std", hparams_.std}}) {
        const int64_t id = gguf_find_key(file_.raw(), key);
        if (id < 0 || gguf_get_kv_type(file_.raw(), id) != GGUF_TYPE_ARRAY ||
            gguf_get_arr_type(file_.raw(), id) != GGUF_TYPE_FLOAT32 || gguf_get_arr_n(file_.raw(), id) != 3) {
            throw std::runtime_error(file_.path() + ": " + key + ": expected an array of three 32-bit floats");
        }
        std::memcpy(values, gguf_get_arr_data(file_.raw(), id), 3 * sizeof(float));
        for (int i = 0; i < 3; ++i) {
            if (!std::isfinite(values[i]) || (values == hparams_.std && !(values[i] > 0.0f))) {
                throw std::runtime_error(file_.path() + ": " + key + ": " + number_string(values[i]) +
                                         " is out of range");
            }
        }
    }
}

ggml_tensor * TowerFile::take(const std::string & name, std::vector<int64_t> shape, bool vector_or_kernel) {
    ggml_tensor * tensor = ggml_get_tensor(file_.tensors(), name.c_str());
    if (!tensor) {
        throw std::runtime_error(file_.path() + ": tensor " + name +
                                 " is missing; convert the checkpoint with trimode-convert");
    }
    shape.resize(GGML_MAX_DIMS, 1);
    if (!std::equal(shape.begin(), shape.end(), tensor->ne)) {
        throw std::runtime_error(file_.path() + ": tensor " + name + " has shape " + shape_string(tensor->ne) +
                                 ", expected " + shape_string(shape.data()));
    }
    if (vector_or_kernel ? tensor->type != GGML_TYPE_F32 : !is_matrix_type(tensor->type)) {
        throw std::runtime_error(file_.path() + ": tensor " + name + " is " + ggml_type_name(tensor->type) +
                                 ", expected " + (vector_or_kernel ? "f32" : "f32, f16, bf16 or q8_0"));
    }
    taken_.push_back(name);
    return tensor;
}

void TowerFile::take_weights() {
    const TowerHparams & h = hparams_;
    TowerWeights & w = weights_;
    // Each layer has nine tensors: a count that the file cannot have is not looked for.
    if (int64_t(h.n_layer) * 9 > gguf_get_n_tensors(file_.raw())) {
        throw std::runtime_error(file_.path() + ": clip.vision.block_count: " + std::to_string(h.n_layer) +
                                 " layers, more than " + std::to_string(gguf_get_n_tensors(file_.raw())) +
                                 " tensors can make");
    }
    w.patch_embd = take("v.patch_embd.weight", {PATCH_PIXELS, PATCH_PIXELS, 3, h.n_embd}, true);
    w.pre_ln = take_vector("v.pre_ln.weight", h.n_embd);
    for (int i = 0; i < h.n_layer; ++i) {
        const std::string p = "v.blk." + std::to_string(i) + ".";
        TowerLayer layer{};
        layer.ln1 = take_vector(p + "ln1.weight", h.n_embd);
        layer.wq = take_matrix(p + "attn_q.weight", h.n_embd, h.n_embd);
        layer.wk = take_matrix(p + "attn_k.weight", h.n_embd, h.n_embd);
        layer.wv = take_matrix(p + "attn_v.weight", h.n_embd, h.n_embd);
        layer.wo = take_matrix(p + "attn_out.weight", h.n_embd, h.n_embd);
        layer.ln2 = take_vector(p + "ln2.weight", h.n_embd);
        layer.ffn_gate = take_matrix(p + "ffn_gate.weight", h.n_embd, h.n_ff);
        layer.ffn_up = take_matrix(p + "ffn_up.weight", h.n_embd, h.n_ff);
        layer.ffn_down = take_matrix(p + "ffn_down.weight", h.n_ff, h.n_embd);
        w.layers.push_back(layer);
    }
    w.input_norm = take_vector("mm.input_norm.weight", h.n_embd);
    w.merger = take_matrix("mm.patch_merger.weight", int64_t(CELL_PATCHES) * CELL_PATCHES * h.n_embd, h.n_embd);
    w.linear_1 = take_matrix("mm.1.weight", h.n_embd, h.n_embd_text);
    w.linear_2 = take_matrix("mm.2.weight", h.n_embd_text, h.n_embd_text);
    if (ggml_get_tensor(file_.tensors(), "mm.1.bias") || ggml_get_tensor(file_.tensors(), "mm.2.bias")) {
        w.bias_1 = take_vector("mm.1.bias", h.n_embd_text);
        w.bias_2 = take_vector("mm.2.bias", h.n_embd_text);
    }
    // For llama.cpp, and not in all files of its converter: the engine has the text model's own.
    if (ggml_get_tensor(file_.tensors(), "v.token_embd.img_break")) {
        take_vector("v.token_embd.img_break", h.n_embd_text);
    }
}

void TowerFile::expect_nothing_left() const {
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.raw()); ++i) {
        const std::string name = gguf_get_tensor_name(file_.raw(), i);
        if (std::find(taken_.begin(), taken_.end(), name) == taken_.end()) {
            throw std::runtime_error(file_.path() + ": tensor " + name +
                                     " does not belong to this architecture as the engine knows it");
        }
    }
}

void TowerFile::check_data_range() const {
    const uint64_t size = std::filesystem::file_size(file_.path());
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.raw()); ++i) {
        const uint64_t begin = gguf_get_data_offset(file_.raw()) + gguf_get_tensor_offset(file_.raw(), i);
        if (begin > size || gguf_get_tensor_size(file_.raw(), i) > size - begin) {
            throw std::runtime_error(file_.path() + ": tensor " + gguf_get_tensor_name(file_.raw(), i) +
                                     " lies behind the end of the file: truncated or damaged, get it again");
        }
    }
}

void TowerFile::read_data() const {
    const std::unique_ptr<std::FILE, int (*)(std::FILE *)> stream(std::fopen(file_.path().c_str(), "rb"), std::fclose);
    std::vector<char> data;
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.raw()); ++i) {
        ggml_tensor * tensor = ggml_get_tensor(file_.tensors(), gguf_get_tensor_name(file_.raw(), i));
        data.resize(gguf_get_tensor_size(file_.raw(), i));
        const auto begin =
            static_cast<long>(gguf_get_data_offset(file_.raw()) + gguf_get_tensor_offset(file_.raw(), i));
        if (!stream || std::fseek(stream.get(), begin, SEEK_SET) != 0 ||
            std::fread(data.data(), 1, data.size(), stream.get()) != data.size()) {
            throw std::runtime_error(file_.path() + ": tensor " + ggml_get_name(tensor) + " cannot be read");
        }
        ggml_backend_tensor_set(tensor, data.data(), 0, data.size());
    }
}

}  // namespace trimode
