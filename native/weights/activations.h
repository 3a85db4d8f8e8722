// What goes into each weight matrix of a model while it runs: squares summed up by column, for importance matrices.
// The passes are libllama's own (llama_decode), which calls us back for every matrix product.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "llama-cpp.h"
#include "model/model.h"

namespace trimode {

class Activations {
  public:
    struct Sums {
        std::vector<double> squares;  // one per column of the weight
        int64_t rows = 0;             // rows that went in
    };

    // The model must outlive this. `lora_path` empty: no drafter LoRA; `n_threads` 0: libllama's default.
    // Throws std::invalid_argument for a model without weights that libllama can run (vocab_only, repack),
    // std::runtime_error when the adapter cannot be loaded or there is no room for the context.
    Activations(const Model & model, const std::string & lora_path, int n_ctx, int n_threads);
    Activations(const Activations &) = delete;
    Activations & operator=(const Activations &) = delete;

    // Runs a causal pass over `tokens` from `position` on; what the cache holds from there on is dropped before.
    void causal(const std::vector<llama_token> & tokens, int position);

    // The same, but the rows see each other in both directions, with the LoRA if asked for; nothing stays in the cache.
    void block(const std::vector<llama_token> & tokens, int position, bool lora);

    // By the name of the weight.
    const std::map<std::string, Sums> & sums() const { return sums_; }

  private:
    static bool evaluated(ggml_tensor * tensor, bool ask, void * self);
    void add(const std::string & name, const ggml_tensor * input);
    void decode(const std::vector<llama_token> & tokens, int position);

    llama_adapter_lora_ptr lora_;  // null: none
    llama_context_ptr context_;
    std::map<std::string, Sums> sums_;
    std::vector<float> input_;
};

}  // namespace trimode
