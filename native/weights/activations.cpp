#include "weights/activations.h"

#include <stdexcept>

#include "ggml-backend.h"
#include "util/log.h"

namespace trimode {

namespace {

// A weight that the scheduler copied to a device is called DEVICE#NAME#N there.
std::string weight_name(const ggml_tensor * tensor) {
    const std::string name = tensor->name;
    const size_t begin = name.find('#');
    return begin == std::string::npos ? name : name.substr(begin + 1, name.find('#', begin + 1) - begin - 1);
}

bool is_weight(const std::string & name) {
    const std::string suffix = ".weight";
    return name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0 &&
           (name.rfind("blk.", 0) == 0 || name == "output.weight");
}

}  // namespace

Activations::Activations(const Model & model, const std::string & lora_path, int n_ctx, int n_threads) {
    if (model.vocab_only() || model.is_packed()) {
        throw std::invalid_argument("activations need a model with its weights as in the file: repack=False");
    }
    Log::clear_error();
    if (!lora_path.empty()) {
        lora_.reset(llama_adapter_lora_init(model.raw(), lora_path.c_str()));
        if (!lora_) {
            throw std::runtime_error(lora_path + ": cannot be loaded: " + Log::last_error());
        }
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = n_ctx;
    if (n_threads > 0) {
        params.n_threads = params.n_threads_batch = n_threads;
    }
    params.cb_eval = evaluated;
    params.cb_eval_user_data = this;
    context_.reset(llama_init_from_model(model.raw(), params));
    if (!context_) {
        throw std::runtime_error(model.path() + ": no context of " + std::to_string(n_ctx) +
                                 " tokens: " + Log::last_error());
    }
}

void Activations::causal(const std::vector<llama_token> & tokens, int position) {
    llama_set_causal_attn(context_.get(), true);
    llama_set_adapters_lora(context_.get(), nullptr, 0, nullptr);
    decode(tokens, position);
}

void Activations::block(const std::vector<llama_token> & tokens, int position, bool lora) {
    llama_set_causal_attn(context_.get(), false);
    llama_adapter_lora * adapter = lora_.get();
    float scale = 1.0f;
    llama_set_adapters_lora(context_.get(), &adapter, lora && adapter ? 1 : 0, &scale);
    decode(tokens, position);
    llama_memory_seq_rm(llama_get_memory(context_.get()), 0, position, -1);
}

void Activations::decode(const std::vector<llama_token> & tokens, int position) {
    llama_memory_seq_rm(llama_get_memory(context_.get()), 0, position, -1);
    const int n = static_cast<int>(tokens.size());
    llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; ++i) {
        batch.token[i] = tokens[i];
        batch.pos[i] = position + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = true;  // rows without an output would leave the last layer out
    }
    Log::clear_error();
    const int code = llama_decode(context_.get(), batch);
    llama_batch_free(batch);
    if (code != 0) {
        throw std::runtime_error("a pass over " + std::to_string(n) + " tokens from position " +
                                 std::to_string(position) + " failed: " + Log::last_error());
    }
}

// libllama asks first whether a tensor is wanted, then shows it.
bool Activations::evaluated(ggml_tensor * tensor, bool ask, void * self) {
    if (tensor->op != GGML_OP_MUL_MAT || tensor->src[1]->type != GGML_TYPE_F32) {
        return false;
    }
    const std::string name = weight_name(tensor->src[0]);
    if (!is_weight(name)) {
        return false;
    }
    if (!ask) {
        static_cast<Activations *>(self)->add(name, tensor->src[1]);
    }
    return true;
}

void Activations::add(const std::string & name, const ggml_tensor * input) {
    const int64_t n = input->ne[0];
    Sums & sums = sums_[name];
    sums.squares.resize(n);
    input_.resize(n);
    for (int64_t row = 0; row < ggml_nrows(input); ++row) {
        const size_t at = row % input->ne[1] * input->nb[1] + row / input->ne[1] * input->nb[2];
        ggml_backend_tensor_get(input, input_.data(), at, n * sizeof(float));
        for (int64_t i = 0; i < n; ++i) {
            sums.squares[i] += double(input_[i]) * input_[i];
        }
        ++sums.rows;
    }
}

}  // namespace trimode
