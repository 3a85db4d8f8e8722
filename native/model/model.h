// A GGUF model loaded by libllama: hyperparameters, vocabulary and every tensor the graph uses, resolved once.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "llama-cpp.h"
#include "model/hparams.h"
#include "model/layer.h"

namespace trimode {

namespace products {
class PackedWeight;
}

class Adapter;
class DrafterLora;
class PackedWeights;
class ConstraintVocab;

// Which devices hold the layers that are offloaded, as libllama's parameters of the same names.
struct DeviceOptions {
    std::vector<std::string> devices;  // ggml's names (CUDA0, Vulkan1, ...); empty: all
    std::string split_mode = "layer";  // "none": all on main_gpu
    int main_gpu = 0;                  // index among the devices in use
    std::vector<float> tensor_split;   // share of each device; empty: by free memory
};

struct ModelOptions {
    std::string lora_path;  // of the drafter; empty: none
    int n_gpu_layers = 0;
    bool use_mmap = true;
    bool vocab_only = false;
    bool no_alloc = false;  // tensors have shape, type and device, no data: to measure, not to run
    DeviceOptions devices = {};
    std::vector<std::string> adapters = {};  // LoRAs of the user
    bool repack = true;  // for our own products; false: processes share the mapped file, ggml's products read it
};

class Model {
  public:
    // Throws std::runtime_error that names the file and the missing or misshapen tensor or key, std::invalid_argument
    // for devices that are not there.
    Model(const std::string & path, const ModelOptions & options);
    ~Model();
    Model(const Model &) = delete;
    Model & operator=(const Model &) = delete;

    // Keeps the weights that are in main memory there (mlock); returns their bytes. Throws as lock_memory does.
    size_t lock() const;

    const std::string & path() const { return path_; }
    const Hparams & hparams() const { return hparams_; }
    const std::vector<Layer> & layers() const { return layers_; }
    ggml_tensor * token_embd() const { return token_embd_; }
    ggml_tensor * output_norm() const { return output_norm_; }
    ggml_tensor * output() const { return output_; }
    const DrafterLora * lora() const { return lora_.get(); }
    const std::vector<std::unique_ptr<Adapter>> & adapters() const { return adapters_; }
    llama_model * raw() const { return model_.get(); }
    bool vocab_only() const { return layers_.empty(); }
    bool no_alloc() const { return no_alloc_; }

    // Whether some weights are in the layout of our own products, for which libllama's passes have no use.
    bool is_packed() const { return packed_ != nullptr; }

    // The weight in the layout of our own products; null for one that ggml multiplies: on a device, of a type without a
    // product, or loaded without `repack`.
    const products::PackedWeight * packed(const ggml_tensor * weight) const;

    // A pass gave a row of logits without a finite one. Throws std::runtime_error that names the file.
    [[noreturn]] void fail_not_finite() const;

    // True when ggml multiplies some weight of floats: its CPU kernels compute a single row in another summation order
    // than several (llamafile's sgemm needs two), so passes must have two rows to be bit-equal.
    bool has_float_weights() const { return has_float_weights_; }

    std::unordered_map<std::string, std::string> metadata() const;
    std::string description() const;

    int n_vocab() const { return llama_vocab_n_tokens(vocab_); }
    llama_token mask_token() const { return llama_vocab_mask(vocab_); }  // LLAMA_TOKEN_NULL: none
    llama_token bos_token() const { return llama_vocab_bos(vocab_); }
    llama_token eos_token() const { return llama_vocab_eos(vocab_); }
    bool add_bos() const { return llama_vocab_get_add_bos(vocab_); }
    bool is_eog(llama_token token) const { return llama_vocab_is_eog(vocab_, token); }
    bool is_token(llama_token token) const { return token >= 0 && token < n_vocab(); }
    std::vector<llama_token> tokenize(const std::string & text, bool add_special, bool parse_special) const;
    std::string token_to_piece(llama_token token, bool special) const;
    ConstraintVocab & constraint_vocab() const;  // made at the first call

    // Replaces the data of a weight, in the type that it has. No pass may run meanwhile, and what is in a cache is the
    // old weight's. Throws std::invalid_argument for an unknown name, another size and a memory-mapped model.
    void set_weight(const std::string & name, const void * data, size_t size);

  private:
    void resolve_tensors();
    std::vector<ggml_tensor *> matrices() const;

    std::string path_;
    Hparams hparams_;
    llama_model_ptr model_;
    const llama_vocab * vocab_ = nullptr;
    std::vector<Layer> layers_;
    ggml_tensor * token_embd_ = nullptr;
    ggml_tensor * output_norm_ = nullptr;
    ggml_tensor * output_ = nullptr;
    bool has_float_weights_ = false;
    bool no_alloc_ = false;
    bool use_mmap_ = true;
    std::unique_ptr<PackedWeights> packed_;  // null: ggml multiplies all
    std::unique_ptr<DrafterLora> lora_;
    std::vector<std::unique_ptr<Adapter>> adapters_;
    mutable std::once_flag constraint_vocab_made_;
    mutable std::unique_ptr<ConstraintVocab> constraint_vocab_;
};

}  // namespace trimode
