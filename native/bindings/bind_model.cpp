// A loaded model as Python sees it: pytrimode._native.Model.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include "bindings/gil.h"
#include "model/constraint_vocab.h"
#include "model/lora.h"
#include "model/model.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

void load(Model * self, const std::string & path, const std::optional<std::string> & lora_path, int n_gpu_layers,
          bool use_mmap, bool vocab_only, const std::vector<std::string> & devices, const std::string & split_mode,
          int main_gpu, const std::vector<float> & tensor_split, const std::vector<std::string> & adapters,
          bool repack) {
    const GilReleased release;
    new (self) Model(path, {lora_path.value_or(""),
                            n_gpu_layers,
                            use_mmap,
                            vocab_only,
                            /*no_alloc=*/false,
                            {devices, split_mode, main_gpu, tensor_split},
                            adapters,
                            repack});
}

std::vector<llama_token> tokenize(const Model & model, const nb::bytes & text, bool add_special, bool parse_special) {
    const std::string held(text.c_str(), text.size());
    const GilReleased release;
    return model.tokenize(held, add_special, parse_special);
}

nb::bytes token_to_piece(const Model & model, llama_token token, bool special) {
    const std::string piece = model.token_to_piece(token, special);
    return nb::bytes(piece.data(), piece.size());
}

void add_shape(nb::class_<Model> & model) {
    model.def_prop_ro("metadata", &Model::metadata, "Every key of the file, its value as text.")
        .def_prop_ro("description", &Model::description, "Architecture, size and type, as libllama says it.")
        .def_prop_ro(
            "n_params", [](const Model & m) { return llama_model_n_params(m.raw()); }, "Number of weights.")
        .def_prop_ro(
            "size_bytes", [](const Model & m) { return llama_model_size(m.raw()); }, "Bytes of all tensors.")
        .def_prop_ro("n_vocab", &Model::n_vocab, "Tokens in the vocabulary.")
        .def_prop_ro(
            "n_ctx_train", [](const Model & m) { return m.hparams().n_ctx_train; }, "Context it was trained for.")
        .def_prop_ro(
            "n_layer", [](const Model & m) { return m.hparams().n_layer; }, "Layers.")
        .def_prop_ro(
            "n_embd", [](const Model & m) { return m.hparams().n_embd; }, "Width of a row between layers.")
        .def_prop_ro(
            "n_head", [](const Model & m) { return m.hparams().n_head; }, "Heads of queries.")
        .def_prop_ro(
            "n_head_kv", [](const Model & m) { return m.hparams().n_head_kv; }, "Heads of keys and values.")
        .def_prop_ro(
            "head_dim", [](const Model & m) { return m.hparams().head_dim; }, "Width of a head.")
        .def_prop_ro(
            "lora_rank", [](const Model & m) { return m.lora() ? m.lora()->rank() : 0; }, "0 without a drafter LoRA.");
}

void add_tokens(nb::class_<Model> & model) {
    model.def_prop_ro("bos_token_id", &Model::bos_token, "The token before a text; -1 without one.")
        .def_prop_ro("eos_token_id", &Model::eos_token, "The token behind a text; -1 without one.")
        .def_prop_ro("mask_token_id", &Model::mask_token, "-1 when the file names none: only mode ar works then.")
        .def_prop_ro("add_bos", &Model::add_bos, "Whether the tokenizer puts `bos_token_id` before a text.")
        .def("is_eog", &Model::is_eog, "token"_a, "Whether the token ends a generation.")
        .def(
            "prepare_grammars", [](const Model & m) { m.constraint_vocab(); }, nb::call_guard<GilReleased>(),
            "Hand the vocabulary to llguidance, as the first grammar would.")
        .def("tokenize", &tokenize, "text"_a, "add_special"_a, "parse_special"_a,
             "Tokens of UTF-8 text; `add_special`: with bos where the tokenizer adds it; `parse_special`: special "
             "tokens spelled out become their ids.")
        .def("token_to_piece", &token_to_piece, "token"_a, "special"_a,
             "Bytes of a token; of special ones none without `special`. Raises ValueError outside the vocabulary.");
}

}  // namespace

void bind_model(nb::module_ & m) {
    nb::class_<Model> model(m, "Model", "A GGUF model, memory-mapped and loaded by libllama, and its drafter LoRA.");
    model.def("__init__", &load, "path"_a, nb::kw_only(), "lora_path"_a = nb::none(), "n_gpu_layers"_a = 0,
              "use_mmap"_a = true, "vocab_only"_a = false, "devices"_a = std::vector<std::string>{},
              "split_mode"_a = "layer", "main_gpu"_a = 0, "tensor_split"_a = std::vector<float>{},
              "adapters"_a = std::vector<std::string>{}, "repack"_a = true,
              "`lora_path`: of the drafter; `adapters`: files of LoRAs of the user. `devices`: by ggml's names; all "
              "without any. `repack`: weights in the layout of our own products, in "
              "place of the file's.\n\n"
              "Raises ValueError for devices that are not there, RuntimeError that names file, tensor or key for what "
              "cannot be loaded.");
    add_shape(model);
    add_tokens(model);
    model.def(
        "lock", &Model::lock, nb::call_guard<GilReleased>(),
        "Keep the weights that are in main memory there (mlock); returns their bytes. Raises RuntimeError where the "
        "system refuses.");
    model.def(
        "set_weight",
        [](Model & self, const std::string & name, const nb::bytes & data) {
            self.set_weight(name, data.c_str(), data.size());
        },
        "name"_a, "data"_a, "Replace the data of a weight, in the type that it has; see `TriMode.set_weight`.");
}
