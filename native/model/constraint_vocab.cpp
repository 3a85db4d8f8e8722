#include "model/constraint_vocab.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "model/model.h"

namespace trimode {

namespace {

constexpr unsigned char SPECIAL_MARK = 0xFF;  // before the name of a token that is no text

// What a row of a hostile grammar may cost: about 25 ms (its header: 20 items and 14 of fuel a microsecond), and about
// 40 MB for all rows together.
constexpr size_t MAX_ITEMS = 500'000, MAX_STATES = 20'000;

struct Texts {
    std::vector<uint32_t> lengths;
    std::vector<uint8_t> bytes;
};

// Control tokens are no text: a grammar gets them where it names them, and nowhere else.
Texts texts_of(const Model & model) {
    const llama_vocab * vocab = llama_model_get_vocab(model.raw());
    Texts texts;
    for (llama_token token = 0; token < model.n_vocab(); ++token) {
        std::string text = model.token_to_piece(token, true);
        const int attributes = llama_vocab_get_attr(vocab, token);
        const bool is_text = !(attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN));
        if (model.is_eog(token) || !is_text) {
            text.insert(text.begin(), static_cast<char>(SPECIAL_MARK));
        }
        texts.lengths.push_back(static_cast<uint32_t>(text.size()));
        texts.bytes.insert(texts.bytes.end(), text.begin(), text.end());
    }
    return texts;
}

}  // namespace

ConstraintVocab::ConstraintVocab(const Model & model) {
    for (llama_token token = 0; token < model.n_vocab(); ++token) {
        if (model.is_eog(token)) {
            ends_.push_back(token);
        }
    }
    const Texts texts = texts_of(model);
    llg::TokenizerInit init{};
    init.struct_size = sizeof(init);
    init.vocab_size = static_cast<uint32_t>(texts.lengths.size());
    init.tok_eos = ends_.empty() ? UINT32_MAX : ends_.front();
    init.token_lens = texts.lengths.data();
    init.token_bytes = texts.bytes.data();
    init.use_approximate_greedy_tokenize_fn = true;  // it is asked for forced tokens only, which are not used
    if (ends_.size() > 1) {
        init.tok_eos_extra = ends_.data() + 1;
        init.tok_eos_extra_count = static_cast<uint32_t>(ends_.size() - 1);
    }
    char error[512] = "";
    tokenizer_.reset(llg::api().new_tokenizer_v2(&init, error, sizeof(error)));
    if (!tokenizer_) {
        throw std::runtime_error(std::string("grammars cannot be used with this vocabulary: ") + error);
    }
}

MatcherPtr ConstraintVocab::matcher(const std::string & lark) {
    if (MatcherPtr known = copy_of_known(lark)) {
        return known;
    }
    MatcherPtr made = compile(lark);
    MatcherPtr kept(llg::api().clone_matcher(made.get()));
    const std::lock_guard<std::mutex> lock(mutex_);
    compiled_.emplace_front(lark, std::move(kept));
    if (compiled_.size() > N_KEPT) {
        compiled_.pop_back();
    }
    return made;
}

MatcherPtr ConstraintVocab::copy_of_known(const std::string & lark) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found =
        std::find_if(compiled_.begin(), compiled_.end(), [&](const Compiled & c) { return c.first == lark; });
    if (found == compiled_.end()) {
        return nullptr;
    }
    compiled_.splice(compiled_.begin(), compiled_, found);
    return MatcherPtr(llg::api().clone_matcher(found->second.get()));
}

MatcherPtr ConstraintVocab::compile(const std::string & lark) const {
    const llg::Api & api = llg::api();
    llg::MatcherInit init{};
    api.constraint_init_set_defaults(&init, tokenizer_.get());
    init.log_buffer_level = init.log_stderr_level = 0;  // grammars are their senders' business
    init.limits.step_max_items = MAX_ITEMS;
    init.limits.max_lexer_states = MAX_STATES;
    init.limits.verbose_errors = false;
    MatcherPtr made(api.new_matcher(&init, "lark", lark.c_str()));
    if (const char * error = api.matcher_get_error(made.get())) {
        throw std::invalid_argument(std::string("grammar: cannot be parsed: ") + error);
    }
    return made;
}

}  // namespace trimode
