#include "sampling/grammar.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "model/model.h"
#include "model/token_trie.h"
#include "util/log.h"

namespace trimode {

namespace {

// A beginning of few tokens costs as much as they do; one of many is worth a copy of the grammar that has gone that
// far.
constexpr size_t FEW = 16, MANY = 256;

// Whether GBNF names tokens: "<" outside of strings, character classes and comments.
bool names_tokens(const std::string & gbnf) {
    char inside = 0;  // what ends it
    for (size_t i = 0; i < gbnf.size(); ++i) {
        const char c = gbnf[i];
        if (inside) {
            i += c == '\\' && inside != '\n';
            inside = c == inside ? 0 : inside;
        } else if (c == '<') {
            return true;
        } else {
            inside = c == '"' ? '"' : c == '[' ? ']' : c == '#' ? '\n' : 0;
        }
    }
    return false;
}

bool is_refused(const llama_token_data & candidate) { return candidate.logit == -INFINITY; }

}  // namespace

// Entries of the trie, from a beginning to longer ones.
struct Grammar::Walk {
    const TokenTrie & trie;
    float * logits;
    std::vector<llama_token_data> undecided;  // to be asked one by one

    void visit(llama_sampler * state, size_t begin, size_t end, size_t depth);
    void visit_group(llama_sampler * state, size_t begin, size_t end, size_t depth, bool refused);
    size_t group_end(size_t begin, size_t end, size_t depth) const;
    llama_token byte_token(size_t entry, size_t depth) const {
        return trie.byte_token(static_cast<unsigned char>(trie.entries()[entry].text[depth]));
    }
    void ask_later(size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
            undecided.push_back({trie.entries()[i].token, 0.0f, 0.0f});
        }
    }
};

// The entries of [begin, end) have their first `depth` bytes in common, which `state` has accepted.
void Grammar::Walk::visit(llama_sampler * state, size_t begin, size_t end, size_t depth) {
    while (begin < end && trie.entries()[begin].text.size() == depth) {
        ++begin;  // it is what was accepted
    }
    std::vector<llama_token_data> bytes;
    std::vector<std::pair<size_t, size_t>> groups;
    while (begin < end) {
        const size_t next = group_end(begin, end, depth);
        if (const llama_token token = byte_token(begin, depth); token >= 0 && next - begin > FEW) {
            bytes.push_back({token, 0.0f, 0.0f});
            groups.push_back({begin, next});
        } else {
            ask_later(begin, next);
        }
        begin = next;
    }
    apply(state, bytes);
    for (size_t i = 0; i < groups.size(); ++i) {
        visit_group(state, groups[i].first, groups[i].second, depth, is_refused(bytes[i]));
    }
}

void Grammar::Walk::visit_group(llama_sampler * state, size_t begin, size_t end, size_t depth, bool refused) {
    if (refused) {
        for (size_t i = begin; i < end; ++i) {
            logits[trie.entries()[i].token] = -INFINITY;
        }
    } else if (end - begin < MANY) {
        ask_later(begin, end);
    } else {
        const StockSampler further(llama_sampler_clone(state));
        llama_sampler_accept(further.get(), byte_token(begin, depth));
        visit(further.get(), begin, end, depth + 1);
    }
}

// Where another byte follows the first `depth`.
size_t Grammar::Walk::group_end(size_t begin, size_t end, size_t depth) const {
    const auto & entries = trie.entries();
    const auto byte = [&](const TokenTrie::Entry & e) { return static_cast<unsigned char>(e.text[depth]); };
    const auto same = [&, first = byte(entries[begin])](const TokenTrie::Entry & e) { return byte(e) == first; };
    return std::partition_point(entries.begin() + begin, entries.begin() + end, same) - entries.begin();
}

Grammar::Grammar(const Model & model, const std::string & gbnf) : model_(model), by_text_(!names_tokens(gbnf)) {
    Log::clear_error();
    state_.reset(llama_sampler_init_grammar(llama_model_get_vocab(model.raw()), gbnf.c_str(), "root"));
    if (!state_) {
        throw std::invalid_argument("grammar: cannot be parsed: " + Log::last_error());
    }
    model.token_trie();  // made now, not in the first pass that needs it
}

Grammar::Grammar(const Grammar & other)
    : model_(other.model_), by_text_(other.by_text_), state_(llama_sampler_clone(other.state_.get())) {}

void Grammar::filter(std::vector<llama_token_data> & candidates) const {
    apply(state_.get(), candidates);
    const auto may_not_come = [&](const llama_token_data & c) { return is_refused(c) || !takes(c.id); };
    candidates.erase(std::remove_if(candidates.begin(), candidates.end(), may_not_come), candidates.end());
}

bool Grammar::takes(llama_token token) const {
    if (by_text_ || model_.is_eog(token)) {
        return true;
    }
    const StockSampler copy(llama_sampler_clone(state_.get()));
    try {
        llama_sampler_accept(copy.get(), token);
        return true;
    } catch (const std::runtime_error &) {
        return false;
    }
}

void Grammar::mask(float * logits) const {
    const TokenTrie & trie = model_.token_trie();
    Walk walk{trie, logits, {}};
    for (const llama_token token : trie.irregular()) {
        walk.undecided.push_back({token, 0.0f, 0.0f});
    }
    if (by_text_) {
        walk.visit(state_.get(), 0, trie.entries().size(), 0);
    } else {
        walk.ask_later(0, trie.entries().size());
    }
    apply(state_.get(), walk.undecided);
    for (const llama_token_data & c : walk.undecided) {
        if (is_refused(c) || !takes(c.id)) {
            logits[c.id] = -INFINITY;
        }
    }
}

void Grammar::accept(llama_token token) {
    try {
        llama_sampler_accept(state_.get(), token);
    } catch (const std::runtime_error &) {
        // Tokens that are drawn are allowed: it is one that was put in their place.
        throw std::runtime_error("grammar: it does not allow the token " + std::to_string(token) +
                                 ", which ends the reasoning");
    }
}

}  // namespace trimode
