// An mmproj file of llama.cpp's projector type `pixtral`: every key, name, shape and type is checked before anything
// of it is used. Sources: llama.cpp tools/mtmd/clip.cpp, transformers' PixtralVisionModel and Mistral3 projector.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "model/gguf_file.h"

namespace trimode {

struct TowerHparams {
    int n_embd;       // width of the tower
    int n_ff;         // of its feed-forward layers
    int n_layer;      // of its layers
    int n_head;       // of its attention
    int image_size;   // longest side in pixels
    int n_embd_text;  // width of the text model, of a row that the projector gives
    float eps;        // of all norms
    bool silu;        // activation of the feed-forward layers; else GELU
    float mean[3];    // of red, green and blue in 0 .. 1
    float std[3];     // their standard deviation

    int head_dim() const { return n_embd / n_head; }
};

struct TowerLayer {
    ggml_tensor *ln1, *wq, *wk, *wv, *wo;  // attention
    ggml_tensor *ln2, *ffn_gate, *ffn_up, *ffn_down;
};

struct TowerWeights {
    ggml_tensor * patch_embd;  // [14, 14, 3, n_embd]
    ggml_tensor * pre_ln;      // [n_embd]
    std::vector<TowerLayer> layers;
    ggml_tensor * input_norm;          // [n_embd]
    ggml_tensor * merger;              // [4 * n_embd, n_embd]; columns: channel first, then patch of the cell
    ggml_tensor *linear_1, *linear_2;  // [n_embd, n_embd_text], [n_embd_text, n_embd_text]
    ggml_tensor *bias_1 = nullptr, *bias_2 = nullptr;  // [n_embd_text]; null where the projector has none
};

class TowerFile {
  public:
    // Throws std::runtime_error that names the file and the key or tensor, what was found and what is expected.
    explicit TowerFile(const std::string & path);

    const TowerHparams & hparams() const { return hparams_; }
    const TowerWeights & weights() const { return weights_; }
    ggml_context * tensors() const { return file_.tensors(); }

    // Reads the data of all tensors, which have memory by now. Throws std::runtime_error.
    void read_data() const;

  private:
    void read_hparams();
    void read_activation();
    void read_colours();
    int positive(const char * key, int largest) const;
    void check_value(const char * key, double expected, const char * why) const;
    ggml_tensor * take(const std::string & name, std::vector<int64_t> shape, bool vector_or_kernel);
    ggml_tensor * take_vector(const std::string & name, int64_t n) { return take(name, {n}, true); }
    ggml_tensor * take_matrix(const std::string & name, int64_t n_in, int64_t n_out) {
        return take(name, {n_in, n_out}, false);
    }
    void take_weights();
    void check_data_range() const;
    void expect_nothing_left() const;

    GgufFile file_;
    TowerHparams hparams_{};
    TowerWeights weights_{};
    std::vector<std::string> taken_;
};

constexpr int PATCH_PIXELS = 14;
constexpr int CELL_PATCHES = 2;  // along a side: four patches become one row of the text model
constexpr int CELL_PIXELS = PATCH_PIXELS * CELL_PATCHES;

}  // namespace trimode
