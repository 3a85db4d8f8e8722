// What goes into each weight matrix of a model while it runs: squares summed up by column, for importance matrices.
// The passes are libllama's own (llama_decode), which calls us back for every matrix product.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "llama.h"

namespace trimode {

class Activations {
  public:
    struct Sums {
        std::vector<double> squares;  // one per column of the weight
        int64_t rows = 0;             // rows that went in
    };

    // `lora_path` empty: no drafter LoRA. Throws std::runtime_error when a file cannot be loaded.
    Activations(const std::string & path, const std::string & lora_path, int n_ctx, int n_threads, int n_gpu_layers);
    Activations(const Activations &) = delete;
    Activations & operator=(const Activations &) = delete;

    // Runs a causal pass over `tokens` from `position` on; what the cache holds from there on is dropped before.
    void causal(const std::vector<llama_token> & tokens, int position);

    // The same, but the rows see each other in both directions, with the LoRA if asked for; nothing stays in the cache.
    void block(const std::vector<llama_token> & tokens, int position, bool lora);

    // By the name of the weight.
    const std::map<std::string, Sums> & sums() const { return sums_; }

    std::vector<llama_token> tokenize(const std::string & text, bool add_special, bool parse_special) const;
    llama_token bos_token() const { return llama_vocab_bos(vocab_); }    // LLAMA_TOKEN_NULL: none
    llama_token mask_token() const { return llama_vocab_mask(vocab_); }  // the same
    bool add_bos() const { return llama_vocab_get_add_bos(vocab_); }
    bool has_lora() const { return lora_ != nullptr; }

  private:
    struct Free {
        void operator()(llama_model * p) const { llama_model_free(p); }
        void operator()(llama_context * p) const { llama_free(p); }
    };

    static bool evaluated(ggml_tensor * tensor, bool ask, void * self);
    void add(const std::string & name, const ggml_tensor * input);
    void decode(const std::vector<llama_token> & tokens, int position);

    std::unique_ptr<llama_model, Free> model_;
    std::unique_ptr<llama_context, Free> context_;
    llama_adapter_lora * lora_ = nullptr;  // the model's
    const llama_vocab * vocab_ = nullptr;
    std::map<std::string, Sums> sums_;
    std::vector<float> input_;
};

}  // namespace trimode
