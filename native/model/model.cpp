#include "model/model.h"

#include <stdexcept>

#include "ggml-backend.h"
#include "model/adapter.h"
#include "model/constraint_vocab.h"
#include "model/lora.h"
#include "model/model_params.h"
#include "model/packed_weights.h"
#include "model/placement.h"
#include "util/backends.h"
#include "util/lock_memory.h"
#include "util/log.h"
#include "util/process_end.h"

// libllama's one non-public symbol that the engine uses; exported by the pinned version, C++ ABI.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace trimode {

namespace {

std::string shape_string(const ggml_tensor * t) {
    return "[" + std::to_string(t->ne[0]) + ", " + std::to_string(t->ne[1]) + "]";
}

// Looks tensors up by name, checks their shapes, and can tell afterwards whether any was left over.
class TensorTable {
  public:
    TensorTable(const llama_model * model, std::string path) : path_(std::move(path)) {
        for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
            tensors_[name].push_back(tensor);  // a tied embedding occurs twice: plain, and repacked for the head
        }
    }

    bool has(const std::string & name) const { return tensors_.count(name) != 0; }

    std::vector<ggml_tensor *> take_all(const std::string & name, int64_t ne0, int64_t ne1) {
        const auto found = tensors_.find(name);
        if (found == tensors_.end()) {
            throw std::runtime_error(path_ + ": tensor " + name + " is missing");
        }
        const std::vector<ggml_tensor *> tensors = found->second;
        tensors_.erase(found);
        for (const ggml_tensor * t : tensors) {
            if (t->ne[0] != ne0 || t->ne[1] != ne1) {
                throw std::runtime_error(path_ + ": tensor " + name + " has shape " + shape_string(t) + ", expected [" +
                                         std::to_string(ne0) + ", " + std::to_string(ne1) + "]");
            }
        }
        return tensors;
    }

    ggml_tensor * take(const std::string & name, int64_t ne0, int64_t ne1 = 1) { return take_all(name, ne0, ne1)[0]; }

    void expect_empty() const {
        if (!tensors_.empty()) {
            throw std::runtime_error(path_ + ": tensor " + tensors_.begin()->first +
                                     " does not belong to this architecture as the engine knows it (no biases, no "
                                     "fused projections, no RoPE factors)");
        }
    }

  private:
    std::string path_;
    std::unordered_map<std::string, std::vector<ggml_tensor *>> tensors_;
};

llama_split_mode parse_split_mode(const std::string & name) {
    if (name == "none") {
        return LLAMA_SPLIT_MODE_NONE;
    }
    if (name == "layer") {
        return LLAMA_SPLIT_MODE_LAYER;
    }
    throw std::invalid_argument("split_mode: \"" + name + "\" is not known; modes: none, layer");
}

// Ends with a null pointer, as libllama wants it.
std::vector<ggml_backend_dev_t> find_devices(const std::vector<std::string> & names) {
    std::vector<ggml_backend_dev_t> found;
    for (const std::string & name : names) {
        found.push_back(ggml_backend_dev_by_name(name.c_str()));
        if (!found.back()) {
            throw std::invalid_argument("device " + name + " is not there; pytrimode doctor lists those that are");
        }
    }
    found.push_back(nullptr);
    return found;
}

std::vector<float> checked_split(std::vector<float> shares) {
    if (shares.size() > llama_max_devices()) {
        throw std::invalid_argument("tensor_split: " + std::to_string(shares.size()) + " shares; at most " +
                                    std::to_string(llama_max_devices()) + " devices are possible");
    }
    float sum = 0.0f;
    for (const float share : shares) {
        if (!(share >= 0.0f)) {
            throw std::invalid_argument("tensor_split: a share is " + std::to_string(share) + "; it must be 0 or more");
        }
        sum += share;
    }
    if (!shares.empty() && sum == 0.0f) {
        throw std::invalid_argument("tensor_split: all shares are 0");
    }
    shares.resize(llama_max_devices());
    return shares;
}

llama_model * load(const std::string & path, const ModelOptions & options) {
    llama_model_params params = default_model_params();
    params.n_gpu_layers = options.n_gpu_layers;
    params.load_mode = options.use_mmap && !options.no_alloc ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    params.vocab_only = options.vocab_only;
    params.no_alloc = options.no_alloc;
    // ggml's own repacked layouts cannot be packed again, nor shared between processes.
    params.use_extra_bufts = params.use_extra_bufts && options.repack && !products::in_use();
    params.split_mode = parse_split_mode(options.devices.split_mode);
    params.main_gpu = options.devices.main_gpu;
    std::vector<ggml_backend_dev_t> devices = find_devices(options.devices.devices);
    if (devices.size() > 1) {
        params.devices = devices.data();
    }
    const std::vector<float> split = checked_split(options.devices.tensor_split);
    if (!options.devices.tensor_split.empty()) {
        params.tensor_split = split.data();
    }
    params.progress_callback = [](float, void *) { return !ProcessEnd::begun(); };
    Log::clear_error();
    llama_model * model = llama_model_load_from_file(path.c_str(), params);
    if (!model) {
        throw std::runtime_error(path + ": cannot be loaded: " + Log::last_error());
    }
    return model;
}

bool is_float(const ggml_tensor * t) {
    return t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_BF16;
}

}  // namespace

Model::Model(const std::string & path, const ModelOptions & options)
    : path_(path), no_alloc_(options.no_alloc), use_mmap_(options.use_mmap) {
    load_backends();
    hparams_ = Hparams::read(GgufFile(path));
    model_.reset(load(path, options));
    vocab_ = llama_model_get_vocab(model_.get());
    if (options.vocab_only) {
        return;
    }
    resolve_tensors();
    if (options.repack && products::in_use()) {
        packed_ = std::make_unique<PackedWeights>(matrices(), token_embd_, no_alloc_);
    }
    for (const ggml_tensor * w : matrices()) {
        has_float_weights_ |= is_float(w) && !packed(w);
    }
    if (!options.lora_path.empty()) {
        lora_ = std::make_unique<DrafterLora>(options.lora_path, hparams_, layers_, no_alloc_);
    }
    if (options.adapters.size() > MAX_ADAPTERS) {
        throw std::invalid_argument(std::to_string(options.adapters.size()) + " LoRA adapters: at most " +
                                    std::to_string(MAX_ADAPTERS) + " are possible");
    }
    for (const std::string & adapter : options.adapters) {
        adapters_.push_back(std::make_unique<Adapter>(adapter, layers_, packed_ != nullptr, no_alloc_));
        has_float_weights_ |= adapters_.back()->has_float_weights();
    }
}

Model::~Model() = default;

void Model::resolve_tensors() {
    const Hparams & h = hparams_;
    const int64_t n_q = int64_t(h.n_head) * h.head_dim;
    const int64_t n_kv = int64_t(h.n_head_kv) * h.head_dim;
    TensorTable table(model_.get(), path_);

    const bool tied = !table.has("output.weight");
    const auto embeddings = table.take_all("token_embd.weight", h.n_embd, n_vocab());
    token_embd_ = embeddings.front();
    output_ = tied ? embeddings.back() : table.take("output.weight", h.n_embd, n_vocab());
    output_norm_ = table.take("output_norm.weight", h.n_embd);
    for (int i = 0; i < h.n_layer; ++i) {
        const auto take = [&](const char * name, int64_t ne0, int64_t ne1 = 1) {
            return table.take("blk." + std::to_string(i) + "." + name + ".weight", ne0, ne1);
        };
        Layer layer{};
        layer.attn_norm = take("attn_norm", h.n_embd);
        layer.wq = take("attn_q", h.n_embd, n_q);
        layer.wk = take("attn_k", h.n_embd, n_kv);
        layer.wv = take("attn_v", h.n_embd, n_kv);
        layer.wo = take("attn_output", n_q, h.n_embd);
        layer.ffn_norm = take("ffn_norm", h.n_embd);
        layer.ffn_gate = take("ffn_gate", h.n_embd, h.n_ff);
        layer.ffn_up = take("ffn_up", h.n_embd, h.n_ff);
        layer.ffn_down = take("ffn_down", h.n_ff, h.n_embd);
        layers_.push_back(layer);
    }
    table.expect_empty();
}

std::vector<ggml_tensor *> Model::matrices() const {
    std::vector<ggml_tensor *> found = {output_};
    for (const Layer & l : layers_) {
        found.insert(found.end(), {l.wq, l.wk, l.wv, l.wo, l.ffn_gate, l.ffn_up, l.ffn_down});
    }
    return found;
}

const products::PackedWeight * Model::packed(const ggml_tensor * weight) const {
    return packed_ ? packed_->find(weight) : nullptr;
}

void Model::fail_not_finite() const {
    throw std::runtime_error(path_ +
                             ": no logit of a row is finite (NaN or infinity): the weights are damaged; "
                             "download or convert the model again");
}

std::unordered_map<std::string, std::string> Model::metadata() const {
    const auto read = [](auto && get) {
        std::string value(256, '\0');
        int32_t size = get(value.data(), value.size());
        if (size >= static_cast<int32_t>(value.size())) {
            value.resize(size + 1);
            size = get(value.data(), value.size());
        }
        value.resize(std::max(size, 0));
        return value;
    };
    std::unordered_map<std::string, std::string> result;
    for (int32_t i = 0; i < llama_model_meta_count(model_.get()); ++i) {
        const std::string key =
            read([&](char * buf, size_t n) { return llama_model_meta_key_by_index(model_.get(), i, buf, n); });
        result[key] =
            read([&](char * buf, size_t n) { return llama_model_meta_val_str_by_index(model_.get(), i, buf, n); });
    }
    return result;
}

std::string Model::description() const {
    char buf[256] = {};
    llama_model_desc(model_.get(), buf, sizeof buf);
    return buf;
}

std::vector<llama_token> Model::tokenize(const std::string & text, bool add_special, bool parse_special) const {
    std::vector<llama_token> tokens(text.size() + 2);
    const auto run = [&] {
        return llama_tokenize(vocab_, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                              static_cast<int32_t>(tokens.size()), add_special, parse_special);
    };
    int32_t n = run();
    if (n < 0) {
        tokens.resize(static_cast<size_t>(-static_cast<int64_t>(n)));
        n = run();
    }
    tokens.resize(std::max(n, 0));
    return tokens;
}

std::string Model::token_to_piece(llama_token token, bool special) const {
    if (!is_token(token)) {
        throw std::invalid_argument("token id " + std::to_string(token) + " is not in the vocabulary of " +
                                    std::to_string(n_vocab()));
    }
    std::string piece(32, '\0');
    const auto run = [&] {
        return llama_token_to_piece(vocab_, token, piece.data(), static_cast<int32_t>(piece.size()), 0, special);
    };
    int32_t n = run();
    if (n < 0) {
        piece.resize(-n);
        n = run();
    }
    piece.resize(std::max(n, 0));
    return piece;
}

ConstraintVocab & Model::constraint_vocab() const {
    std::call_once(constraint_vocab_made_, [this] { constraint_vocab_ = std::make_unique<ConstraintVocab>(*this); });
    return *constraint_vocab_;
}

size_t Model::lock() const {
    size_t total = packed_ ? packed_->lock() : 0;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model_.get())) {
        if (tensor->buffer && !device_of(tensor) && !(packed_ && packed_->holds_alone(tensor))) {
            lock_memory(tensor->data, ggml_nbytes(tensor));
            total += ggml_nbytes(tensor);
        }
    }
    return total;
}

void Model::set_weight(const std::string & name, const void * data, size_t size) {
    if (use_mmap_ || no_alloc_) {
        throw std::invalid_argument(path_ + ": its weights are mapped from the file: load it with use_mmap=False");
    }
    bool found = false;
    for (const auto & [known, tensor] : llama_internal_get_tensor_map(model_.get())) {
        if (known != name) {
            continue;
        }
        found = true;
        if (ggml_nbytes(tensor) != size) {
            throw std::invalid_argument(path_ + ": tensor " + name + " has " + std::to_string(ggml_nbytes(tensor)) +
                                        " bytes, " + std::to_string(size) + " are given");
        }
        if (packed_) {
            packed_->replace(tensor, data);
        }
        if (!packed_ || !packed_->holds_alone(tensor)) {
            ggml_backend_tensor_set(tensor, data, 0, size);
        }
    }
    if (!found) {
        throw std::invalid_argument(path_ + ": has no tensor " + name);
    }
}

}  // namespace trimode
