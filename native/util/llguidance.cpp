#include "util/llguidance.h"

#include <dlfcn.h>

#include <cstring>
#include <mutex>
#include <stdexcept>

namespace trimode::llg {

namespace {

// The defaults that the header of version 1.9 names, in the order of its fields.
constexpr Limits DEFAULTS{2000, 1'000'000, 200'000, 50'000, 250'000, 500'000, true, true};
constexpr unsigned char UNSET = 0xAA;

std::mutex loading;
bool loaded = false;
Api functions;

template <typename Function>
void find(void * library, const char * name, Function & out, const std::string & path) {
    void * symbol = dlsym(library, name);
    if (!symbol) {
        throw std::runtime_error(path + " has no function " + name + ": another llguidance is needed");
    }
    std::memcpy(&out, &symbol, sizeof(out));
}

bool same(const Limits & a, const Limits & b) {
    return a.max_items_in_row == b.max_items_in_row && a.initial_lexer_fuel == b.initial_lexer_fuel &&
           a.step_lexer_fuel == b.step_lexer_fuel && a.step_max_items == b.step_max_items &&
           a.max_lexer_states == b.max_lexer_states && a.max_grammar_size == b.max_grammar_size &&
           a.precompute_large_lexemes == b.precompute_large_lexemes && a.verbose_errors == b.verbose_errors;
}

// A struct of defaults that the library fills must end where ours does, and say what its header says.
void check_layout(const Api & api, const std::string & path) {
    struct {
        MatcherInit init;
        unsigned char behind[64];
    } held;
    std::memset(&held, UNSET, sizeof(held));
    api.constraint_init_set_defaults(&held.init, nullptr);
    bool fits = held.init.tokenizer == nullptr && same(held.init.limits, DEFAULTS);
    for (const unsigned char byte : held.behind) {
        fits = fits && byte == UNSET;
    }
    if (!fits) {
        throw std::runtime_error(path + " (" + api.get_version() + ") is laid out in another way than version 1.9");
    }
}

}  // namespace

void load(const std::string & path) {
    const std::lock_guard<std::mutex> lock(loading);
    if (loaded) {
        return;
    }
    void * library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        throw std::runtime_error(path + " cannot be loaded: " + dlerror());
    }
    Api found;
    find(library, "llg_get_version", found.get_version, path);
    find(library, "llg_constraint_init_set_defaults", found.constraint_init_set_defaults, path);
    find(library, "llg_new_tokenizer_v2", found.new_tokenizer_v2, path);
    find(library, "llg_free_tokenizer", found.free_tokenizer, path);
    find(library, "llg_new_matcher", found.new_matcher, path);
    find(library, "llg_clone_matcher", found.clone_matcher, path);
    find(library, "llg_free_matcher", found.free_matcher, path);
    find(library, "llg_matcher_get_error", found.matcher_get_error, path);
    find(library, "llg_matcher_compute_mask_into", found.matcher_compute_mask_into, path);
    find(library, "llg_matcher_get_mask_byte_size", found.matcher_get_mask_byte_size, path);
    find(library, "llg_matcher_consume_token", found.matcher_consume_token, path);
    find(library, "llg_matcher_rollback", found.matcher_rollback, path);
    find(library, "llg_matcher_is_accepting", found.matcher_is_accepting, path);
    find(library, "llg_matcher_validate_tokens", found.matcher_validate_tokens, path);
    check_layout(found, path);
    functions = found;
    loaded = true;
}

const Api & api() {
    const std::lock_guard<std::mutex> lock(loading);
    if (!loaded) {
        throw std::runtime_error("llguidance is not loaded");
    }
    return functions;
}

}  // namespace trimode::llg
